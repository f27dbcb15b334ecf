"""Sections of ``params.yaml`` for the stages that create and check data, and for imported data."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from catimage.common.names import folder_name
from catimage.errors import InputError, nearest
from catimage.params.section import FolderName, Section
from catimage.params.sources import DecisionSource, SceneSource, Source

MAX_GATE_SHARE = 0.5
"""Maximum share of the split ``gate``, which leaves 30% of the prompts for ``train``."""


class EncoderParams(Section):
    """The text encoder of the router. A text, the model, stands for ``{model: text}``.

    Attributes:
        model: an open_clip model name, ``local-dir:FOLDER``,
            ``sentence-transformers:NAME_OR_FOLDER``, or ``tiny`` (the embedded CLIP).
        weights: name of open_clip's pretrained weights.
        revision: git revision of the model on the Hugging Face hub.
    """

    model: str = "tiny"
    weights: str = ""
    revision: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, encoder: Any) -> Any:
        return {"model": encoder} if isinstance(encoder, str) else encoder

    @property
    def name(self) -> str:
        """Name of the folder of the encoder's embeddings in ``data/embeddings/``; no other encoder
        has the same name.
        """
        parts = (self.model, self.weights, self.revision)
        return folder_name(*(parts if any(parts[1:]) else parts[:1]))


class SampleParams(Section):
    """Stage sample.

    Attributes:
        sources: the prompt sources.
        max_similarity: maximum cosine similarity of the text embeddings of two prompts; of two
            prompts that are more similar, one is omitted.
        max_prompt_length: maximum number of characters of a prompt; longer prompts are omitted.
        gate_share: share of the prompts in the split ``gate``, which only promotion reads. They are
            taken from the 80% that otherwise are in ``train``; the splits ``val`` and ``test`` have
            10% each. 0 for no such split.
    """

    sources: tuple[Source, ...] = Field((SceneSource(),), min_length=1)
    max_similarity: float = Field(0.75, gt=0, le=1)
    max_prompt_length: int = Field(2000, ge=1)
    gate_share: float = Field(0.1, ge=0, le=MAX_GATE_SHARE)

    @field_validator("sources")
    @classmethod
    def _one_decision_log(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        if sum(isinstance(source, DecisionSource) for source in sources) > 1:
            raise ValueError("only one source can be of kind decisions")
        return sources

    @property
    def decisions(self) -> DecisionSource | None:
        """The source of kind ``decisions``; None if there is none."""
        return next((s for s in self.sources if isinstance(s, DecisionSource)), None)


class GenerateParams(Section):
    """Stage generate.

    Attributes:
        seeds: random seeds; one image per prompt, candidate and seed is generated.
        batch_size: number of images that are generated together. Images of hosted models do not
            depend on it.
        shard_images: number of images per new shard; existing shards are kept.
        device: ``auto``, ``cpu`` or ``cuda``.
        on_refusal: the action if a hosted model refuses a prompt, or a safety checker flags an
            image: ``stop`` the stage, or ``skip`` the image.
    """

    seeds: list[int] = Field(default_factory=lambda: [0, 1], min_length=1)
    batch_size: int = Field(64, ge=1)
    shard_images: int = Field(512, ge=1)
    device: str = "auto"
    on_refusal: Literal["stop", "skip"] = "stop"


class WeightsParams(Section):
    """The model weights of a metric.

    Attributes:
        weights: a folder, or the id of a repository on the Hugging Face hub.
        revision: git revision on the hub; the default branch by default.
    """

    weights: str = Field(min_length=1)
    revision: str | None = None


class CompositeTerm(Section):
    """A metric that a composite combines.

    Attributes:
        weight: weight of the metric in the mean.
        scale: the two scores that are scaled to 0 and 1; the range of the metric by default.
    """

    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    scale: tuple[float, float] | None = None

    @field_validator("scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and not scale[0] < scale[1]:
            raise ValueError("must be two numbers in ascending order")
        return scale


class CompositeParams(Section):
    """A composite: a metric that is computed from the scores of other metrics.

    Attributes:
        kind: ``sum`` for the weighted arithmetic mean of the scaled scores, ``product`` for their
            weighted geometric mean.
        terms: the weight and the scale of each metric, by the name of the metric.
    """

    kind: Literal["sum", "product"] = "sum"
    terms: dict[str, CompositeTerm] = Field(min_length=1)


class LabelParams(Section):
    """Stage label.

    Attributes:
        metrics: names of the metrics and composites to compute.
        composites: definitions of the composites, by name.
        weights: model weights that replace the default weights, by the name of the metric.
        on_error: the action if a metric cannot score an image: ``stop`` the stage, or ``skip`` the
            image.
        batch_size: number of images that are scored together.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    metrics: list[str] = Field(default_factory=lambda: ["clip_score", "sharpness"], min_length=1)
    composites: dict[FolderName, CompositeParams] = Field(default_factory=dict)
    weights: dict[str, WeightsParams] = Field(default_factory=dict)
    on_error: Literal["stop", "skip"] = "stop"
    batch_size: int = Field(256, ge=1)
    device: str = "auto"


class ValidateParams(Section):
    """Stage validate.

    Attributes:
        complete_labels: whether every prompt must have a score for every candidate and seed
            (imported data: for every candidate); otherwise missing scores are allowed.
        max_blank_share: largest share of images of one colour, and of images that are equal to one
            of another prompt, among the checked images of a candidate.
        max_shift: largest mean change of the labels of a candidate for the same prompts since the
            champion was trained, in standard deviations of the labels of the metric.
        max_decline: largest decline of a candidate on new prompts, compared with the other
            candidates, in the same unit (:mod:`catimage.validation.history`).
    """

    complete_labels: bool = True
    max_blank_share: float = Field(0.1, ge=0, le=1)
    max_shift: float = Field(0.25, ge=0, allow_inf_nan=False)
    max_decline: float = Field(1.0, ge=0, allow_inf_nan=False)


class ImportParams(Section):
    """Properties of imported data, written by ``import-scores`` and ``import-images``.

    Attributes:
        kind: ``scores`` or ``images``.
        lower_is_better: names of the metrics whose low scores are good; for imported scores only.
        metric_reference: the reference candidate of each candidate, by name; for imported images
            only. The reference image of an image is that of the reference candidate for the same
            prompt and seed.
        gate_share: as ``sample.gate_share``, for imported data.
    """

    kind: Literal["scores", "images"] = "scores"
    lower_is_better: list[str] = Field(default_factory=list)
    metric_reference: dict[str, str] = Field(default_factory=dict)
    gate_share: float = Field(0.1, ge=0, le=MAX_GATE_SHARE)

    @model_validator(mode="after")
    def _settings_of_kind(self) -> Self:
        key, kind = (
            ("metric_reference", "images")
            if self.kind == "scores"
            else ("lower_is_better", "scores")
        )
        if getattr(self, key):
            raise ValueError(f"{key} is for imported {kind} only, but kind is {self.kind}")
        return self

    def check_references(self, candidates: list[str]) -> None:
        """Raise InputError if ``metric_reference`` names an unknown candidate."""
        for name in (*self.metric_reference, *self.metric_reference.values()):
            if name not in candidates:
                raise InputError(
                    f"params.yaml: import.metric_reference: unknown candidate"
                    f" {name!r}{nearest(name, candidates)}. Use one of {', '.join(candidates)}."
                )
