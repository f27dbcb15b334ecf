"""Sections of the stages that make and check data, and of what was imported instead."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from catimage.errors import InputError, nearest
from catimage.params.section import Section


class EncoderParams(Section):
    """The text encoder of the router.

    ``model`` is an open_clip name, ``local-dir:FOLDER``, ``sentence-transformers:NAME_OR_FOLDER``,
    or ``tiny`` (the embedded CLIP).
    """

    model: str = "tiny"
    weights: str = ""
    revision: str = ""

    @property
    def name(self) -> str:
        """The folder name of its embeddings."""
        return re.sub(
            r"[^A-Za-z0-9_.-]+",
            "-",
            "-".join(x for x in (self.model, self.weights, self.revision) if x),
        ).strip("-")


class SceneSource(Section):
    """Captions of the tiny pool's scene grammar."""

    kind: Literal["scenes"] = "scenes"
    count: int = Field(1400, ge=1)
    seed: int = 0


class FileSource(Section):
    """Prompts of a file: csv, tsv, jsonl or parquet with a ``column``, or txt with a prompt a line."""

    kind: Literal["file"] = "file"
    path: str
    column: str = "prompt"
    limit: int | None = Field(None, ge=1)


class SampleParams(Section):
    """Stage sample."""

    sources: tuple[SceneSource | FileSource, ...] = Field((SceneSource(),), min_length=1)
    max_similarity: float = Field(0.75, gt=0, le=1)
    max_prompt_length: int = Field(2000, ge=1)


class GenerateParams(Section):
    """Stage generate. ``shard_images`` fixes how many images a shard plans; ``batch`` how many are
    made at once.
    """

    seeds: list[int] = Field(default_factory=lambda: [0, 1], min_length=1)
    batch: int = Field(64, ge=1)
    shard_images: int = Field(512, ge=1)
    device: str = "auto"


class WeightsParams(Section):
    """Where a metric's weights come from: a folder, or a hub id with a ``revision``."""

    weights: str = Field(min_length=1)
    revision: str | None = None


class CompositeTerm(Section):
    """A metric's part in a composite; ``scale`` are the values that count as 0 and 1, by default
    its range.
    """

    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    scale: tuple[float, float] | None = None

    @field_validator("scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and not scale[0] < scale[1]:
            raise ValueError("must be two numbers, the lower one first")
        return scale


class CompositeParams(Section):
    """A metric made of others: a weighted mean (``sum``) or geometric mean (``product``) of scaled
    ones.
    """

    kind: Literal["sum", "product"] = "sum"
    terms: dict[str, CompositeTerm] = Field(min_length=1)


class LabelParams(Section):
    """Stage label. ``on_error`` says what happens to an image that a metric cannot score: ``stop``,
    or ``skip`` it and go on.
    """

    metrics: list[str] = Field(default_factory=lambda: ["clip_score", "sharpness"], min_length=1)
    composites: dict[str, CompositeParams] = Field(default_factory=dict)
    weights: dict[str, WeightsParams] = Field(default_factory=dict)
    on_error: Literal["stop", "skip"] = "stop"
    batch: int = Field(256, ge=1)
    device: str = "auto"


class ValidateParams(Section):
    """Stage validate."""

    complete_labels: bool = True


class ImportParams(Section):
    """What ``import-scores`` or ``import-images`` was told.

    Imported scores are in directions of their own, which ``lower_is_better`` tells. Imported images
    are scored by our metrics, which declare theirs; ``metric_reference`` gives, by candidate, the
    one whose image of the same prompt and seed is its reference.
    """

    kind: Literal["scores", "images"] = "scores"
    lower_is_better: list[str] = Field(default_factory=list)
    metric_reference: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        key, kind = (
            ("metric_reference", "images")
            if self.kind == "scores"
            else ("lower_is_better", "scores")
        )
        if getattr(self, key):
            raise ValueError(
                f"{key} is for imported {kind}, and these are {self.kind}; leave it out"
            )
        return self

    def check_references(self, candidates: list[str]) -> None:
        """``metric_reference`` names none but ``candidates``.

        Raises:
            InputError: naming the first that is none.
        """
        for name in (*self.metric_reference, *self.metric_reference.values()):
            if name not in candidates:
                known = f"{nearest(name, candidates)}; there are {', '.join(candidates)}"
                raise InputError(
                    f"params.yaml: import.metric_reference: {name!r} is no candidate{known}."
                )
