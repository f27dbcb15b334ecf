"""Sections of the stages that learn: estimators, and the operating rule that calibration finds."""

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

from catimage.errors import InputError
from catimage.params.data import EncoderParams
from catimage.params.section import Section


class FeatureParams(Section):
    """What a regressor reads of a prompt; ``encoder`` is the workspace's where it is left out
    (TF-IDF has none).

    ``tfidf`` are words and pairs of words, ``characters`` runs of 2 to 5 characters; ``embedding``
    the encoder's of the whole prompt, ``layers`` what each of its layers says on average over the
    tokens, ``kernel`` the sum of a Gaussian kernel of either, ``tokens`` the embedding of each
    token; ``prompts`` the text itself. ``weight`` counts where several are joined.
    """

    kind: Literal["tfidf", "characters", "embedding", "layers", "kernel", "tokens", "prompts"]
    encoder: EncoderParams | None = None
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)


class EstimatorParams(Section):
    """An estimator: a kind by its name alone, or with features, settings and a name of its own.

    ``features`` empty means the kind's own; several are joined. ``members`` are names of other
    estimators (of a stack). ``target`` says what is predicted: the labels themselves (``levels``),
    or their mean over the candidates and each one's difference from it (``differences``), which is
    all that routing reads; ``auto`` takes what errs less in the differences. ``settings`` are
    parameters of the regressor's constructor.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    kind: str = ""
    features: tuple[FeatureParams, ...] = ()
    members: tuple[str, ...] = ()
    target: Literal["levels", "differences", "auto"] = "levels"
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("features", mode="before")
    @classmethod
    def _by_kind(cls, features: Any) -> Any:
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
                    f"{key} is {value}: give it a finite number, or leave it out for its default"
                )
        return settings

    @model_serializer(mode="wrap")
    def _shortest(self, whole: SerializerFunctionWrapHandler) -> Any:
        """The name alone where nothing else is said."""
        return self.name if self == EstimatorParams(name=self.name) else whole(self)

    @property
    def made_as(self) -> str:
        """The kind; an estimator of no kind is of the kind that it is named after."""
        return self.kind or self.name


class TrainParams(Section):
    """Stage train. ``metrics`` empty means the routed metric alone; ``folds`` are of the
    cross-validation on the train split (0: none).
    """

    estimators: tuple[EstimatorParams, ...] = Field(
        ("knn", "ridge", "kernel_ridge"), min_length=1, validate_default=True
    )
    metrics: list[str] = Field(default_factory=list)
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
    def _by_name(cls, estimators: Any) -> Any:
        return (
            [{"name": e} if isinstance(e, str) else e for e in estimators]
            if isinstance(estimators, list | tuple)
            else estimators
        )

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [e.name for e in self.estimators]
        for e in self.estimators:
            if names.count(e.name) > 1:
                raise ValueError(f"two estimators are named {e.name!r}: give one another 'name'")
            if unknown := [m for m in e.members if m not in names or m == e.name]:
                raise ValueError(
                    f"{e.name} is to be made of {unknown[0]!r}, which is no other estimator of the"
                    " list"
                )
        return self


class CalibrateParams(Section):
    """Stage calibrate.

    ``estimator``: ``auto`` (the best cross-validated mean curve quality) or a name of
    ``train.estimators``. ``mix``: where lambda jumps over the budget, a share of the prompts goes
    by the rule on its other side, so that the budget is used up. ``confidence``: the probability
    with which the true mean cost keeps the budget. ``quality_floor``: the cheapest routing of at
    least this mean quality takes the place of the budget. ``floors``: mean qualities that other
    trained metrics keep. ``risk_aversion``: how many predictive standard deviations are taken off
    the predicted quality.
    """

    estimator: str = "auto"
    mix: bool = True
    confidence: float | None = Field(None, gt=0, lt=1)
    quality_floor: float | None = Field(None, allow_inf_nan=False)
    floors: dict[str, float] = Field(default_factory=dict)
    risk_aversion: float = Field(0.0, ge=0, allow_inf_nan=False)

    def check(self, metric: str, trained_metrics: Collection[str]) -> None:
        """Check that the settings do not exclude each other.

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
                    " train again."
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
        "one minimises the cost and the other maximises quality within the budget"
    ),
    ("quality_floor", "confidence"): (
        "the confidence is that of a budget, and a quality floor has none"
    ),
    ("floors", "confidence"): (
        "the certificate is not valid for multipliers that are fitted to the same prompts"
    ),
}
"""Pairs of settings that cannot be combined, and the reason."""
