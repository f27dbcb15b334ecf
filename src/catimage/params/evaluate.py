"""Sections of ``params.yaml`` for the stages evaluate and package."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from catimage.params.section import Section


class PlateauMetricParams(Section):
    """A metric of the plateau rule (BudgetFusion, equation 7).

    Attributes:
        weight: the weight omega; calibrated by default.
        estimator: the estimator that predicts the metric at every step count; the rule's estimator
            by default. (I-CLIP is trained for another number of epochs, BudgetFusion 3.3.)
    """

    weight: float | None = Field(None, allow_inf_nan=False)
    estimator: str = ""


class PlateauParams(Section):
    """BudgetFusion's rule and experimental conditions; evaluated if ``metrics`` is not empty.

    Attributes:
        metrics: the metrics of the rule, by name.
        estimator: the estimator that predicts the metrics at every step count.
        budget: budget to which weights are calibrated: a mean cost, or a percentage of the cost of
            the most steps (``40%``). Empty: weights maximise the gain in quality at equal cost.
        literal: apply equation 7 literally, which always selects the last step.
        margin: a series reaches its plateau at the latest when it is within this share of its range
            from its best value; 0 disables this.
    """

    metrics: dict[str, PlateauMetricParams] = Field(default_factory=dict)
    estimator: str = "lstm"
    budget: str = ""
    literal: bool = False
    margin: float = Field(0.05, ge=0, lt=1)

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> str:
        return "" if value is None else str(value)


class EvaluateParams(Section):
    """Stage evaluate.

    Attributes:
        bootstrap: number of bootstrap resamples.
        seed: seed of the resamples.
        set_metrics: metrics of whole sets of images, such as ``fid``.
        reference_images: folder of real images that generated sets are compared with. Empty: scenes
            are rendered from their captions.
        trials: number of trials of CATImage's Table 1; 0 omits the table.
        trial_seeds: numbers of images per prompt from which a trial's labels are computed.
        plateau: BudgetFusion's rule.
    """

    bootstrap: int = Field(2000, ge=100)
    seed: int = 0
    set_metrics: list[str] = Field(default_factory=list)
    reference_images: str = ""
    trials: int = Field(100, ge=0)
    trial_seeds: list[int] = Field(default_factory=lambda: [1, 3])
    plateau: PlateauParams = PlateauParams()


class PackageParams(Section):
    """Stage package.

    Attributes:
        name: name of the Bento.
    """

    name: str = "catimage"
