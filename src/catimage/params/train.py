"""Sections of ``params.yaml`` for the stages train and calibrate."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from catimage.errors import InputError, nearest
from catimage.params.data import EncoderParams
from catimage.params.section import FolderName, Section


class FeatureParams(Section):
    """Features of a prompt, the input of an estimator.

    Attributes:
        kind: one of

            - ``tfidf``: TF-IDF of words and pairs of words
            - ``characters``: TF-IDF of sequences of 2 to 5 characters
            - ``embedding``: the embedding of the prompt by the text encoder
            - ``layers``: the hidden states of each layer of the text encoder, averaged over the
              tokens
            - ``kernel``: features of a Gaussian kernel on ``embedding`` and ``layers``
            - ``tokens``: the embedding of each token by the text encoder
            - ``prompts``: the text of the prompt
        encoder: the text encoder; by default that of the section ``encoder``.
        weight: factor of these features if an estimator has several kinds of features.
    """

    kind: Literal["tfidf", "characters", "embedding", "layers", "kernel", "tokens", "prompts"]
    encoder: EncoderParams | None = None
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)


ESTIMATOR_KINDS = (
    "clusters",
    "finetuned",
    "kernel_ridge",
    "knn",
    "lstm",
    "mlp",
    "ridge",
    "stack",
    "transformer",
)
"""The kinds of estimators (:data:`catimage.estimators.build.BUILDERS`)."""


class EstimatorParams(Section):
    """An estimator. In ``params.yaml``, a string such as ``knn`` stands for ``{name: knn}``.

    Attributes:
        name: unique name.
        kind: kind of the estimator; the name by default.
        features: the features, which are concatenated; by default those of the kind.
        members: names of the estimators that an estimator of kind ``stack`` combines.
        target: the quantities to which the regressor is fitted. ``levels``: the label of each
            candidate; ``differences``: the mean label over the candidates and the difference of
            each candidate from this mean; ``auto``: the target with the smaller error of the
            differences, which determine the routing.
        settings: constructor parameters of the regressor.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    kind: str = ""
    features: tuple[FeatureParams, ...] = ()
    members: tuple[str, ...] = ()
    target: Literal["levels", "differences", "auto"] = "levels"
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("features", mode="before")
    @classmethod
    def _expand_names(cls, features: Any) -> Any:
        return (
            [{"kind": f} if isinstance(f, str) else f for f in features]
            if isinstance(features, list | tuple)
            else features
        )

    @field_validator("settings")
    @classmethod
    def _finite(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for key, value in settings.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(
                    f"the setting {key} must be finite, not {value}; omit it to use its default"
                )
        return settings

    @model_validator(mode="after")
    def _known_kind(self) -> Self:
        kind = self.resolved_kind
        if kind not in ESTIMATOR_KINDS:
            raise ValueError(
                f"unknown kind {kind!r}{nearest(kind, ESTIMATOR_KINDS)}; the kinds are"
                f" {', '.join(ESTIMATOR_KINDS)}"
            )
        return self

    @model_serializer(mode="wrap")
    def _shortest(self, serialize: SerializerFunctionWrapHandler) -> Any:
        """Return only the name if all other values are the defaults."""
        return self.name if self == EstimatorParams(name=self.name) else serialize(self)

    @property
    def resolved_kind(self) -> str:
        """The kind, or the name if no kind is set."""
        return self.kind or self.name


class TrainParams(Section):
    """Stage train.

    Attributes:
        estimators: the estimators to train, in any order.
        metrics: metrics to train in addition to the routed metric.
        folds: number of folds of the cross-validation on the train split; 0 disables the
            cross-validation.
        seed: seed of the fits and of the assignment to folds.
    """

    estimators: tuple[EstimatorParams, ...] = Field(
        ("knn", "ridge", "kernel_ridge"), min_length=1, validate_default=True
    )
    metrics: list[FolderName] = Field(default_factory=list)
    folds: int = Field(5, ge=0)
    seed: int = 0

    @field_validator("folds")
    @classmethod
    def _folds(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("must be 0 (no cross-validation) or 2 or more")
        return folds

    @field_validator("estimators", mode="before")
    @classmethod
    def _expand_names(cls, estimators: Any) -> Any:
        return (
            [{"name": e} if isinstance(e, str) else e for e in estimators]
            if isinstance(estimators, list | tuple)
            else estimators
        )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [e.name for e in self.estimators]
        for e in self.estimators:
            if names.count(e.name) > 1:
                raise ValueError(f"two estimators have the name {e.name!r}")
            if unknown := [m for m in e.members if m not in names or m == e.name]:
                raise ValueError(
                    f"the member {unknown[0]!r} of {e.name} is not another estimator of the list"
                )
        return self


class CalibrateParams(Section):
    """Stage calibrate.

    Attributes:
        estimator: name of the estimator of the router; ``auto`` selects the estimator with the
            best cross-validated mean quality of the deferral curve.
        mix: whether the router may use two lambdas, each for a share of the prompts, to spend the
            whole budget.
        confidence: minimum probability that the true mean cost is within the budget.
        quality_floor: mean score of the routed metric to reach on the validation split at the
            lowest mean cost. It replaces the budget. On new prompts, the mean score is below the
            floor about as often as above it.
        floors: mean scores of other trained metrics to reach within the budget, by metric.
        risk_aversion: number of predictive standard deviations to subtract from the predicted
            quality.
        match_confidence: confidence with which the stage evaluate selects a lambda that is as good
            as the best single candidate (``selected.match``): minimum probability that its true
            quality is not below that of the candidate.
    """

    estimator: str = "auto"
    mix: bool = True
    confidence: float | None = Field(None, gt=0, lt=1)
    quality_floor: float | None = Field(None, allow_inf_nan=False)
    floors: dict[str, float] = Field(default_factory=dict)
    risk_aversion: float = Field(0.0, ge=0, allow_inf_nan=False)
    match_confidence: float = Field(0.95, gt=0, lt=1)

    def check(self, metric: str, trained_metrics: Collection[str]) -> None:
        """Check that the settings can be combined and that the metrics of the floors are trained.

        Args:
            metric: the routed metric.
            trained_metrics: the metrics that have estimators.

        Raises:
            InputError: two settings exclude each other, or a floor's metric has no estimator.
        """
        for name in self.floors:
            if name == metric:
                raise InputError(
                    f"calibrate.floors: {name} is the routed metric. Set calibrate.quality_floor"
                    " instead."
                )
            if name not in trained_metrics:
                raise InputError(
                    f"calibrate.floors: {name!r} has no estimator. Add it to train.metrics, and"
                    " run 'catimage train' again."
                )
        if self.floors and not self.mix:
            raise InputError(
                "calibrate.floors: floors need randomized rules. Set calibrate.mix to true, or"
                " remove the floors."
            )
        for (first, second), reason in _EXCLUSIVE.items():
            if getattr(self, first) not in (None, {}) and getattr(self, second) not in (None, {}):
                raise InputError(
                    f"calibrate: {first} and {second} exclude each other, as {reason}. Remove one"
                    " of them."
                )


_EXCLUSIVE = {
    ("quality_floor", "floors"): (
        "quality_floor minimises the cost and floors maximise the quality within the budget"
    ),
    ("quality_floor", "confidence"): (
        "a confidence needs a budget, which a quality floor replaces"
    ),
    ("floors", "confidence"): (
        "a rule with floors is fitted to the validation prompts, so it cannot be certified on them"
    ),
}
"""The reason why two settings cannot be combined, by pair of settings."""
