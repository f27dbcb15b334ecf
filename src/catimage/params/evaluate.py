"""Sections of the stages that judge and pack."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from catimage.params.section import Section


class PlateauMetricParams(Section):
    """A metric of the plateau rule (BudgetFusion, equation 7).

    ``weight`` is its omega, calibrated where it is left out; ``estimator`` predicts its series in
    place of the rule's (I-CLIP has another number of epochs, section 3.3).
    """

    weight: float | None = Field(None, allow_inf_nan=False)
    estimator: str = ""


class PlateauParams(Section):
    """BudgetFusion's rule and conditions, judged where ``metrics`` are named.

    ``estimator`` predicts the series. ``budget`` is what weights are calibrated to: a mean cost, or
    a share of the dearest step count (``40%``); empty: the most quality for the compute.
    ``literal`` reads equation 7 to the letter, where the last step always wins. ``margin`` is the
    share of a series' range, below its best, that counts as reached whatever the threshold; 0:
    equation 7 as it is.
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

    ``reference_images`` is a folder of real images, which sets of made ones are compared with.
    ``trials`` are of CATImage's Table 1, with ``trial_seeds`` images a prompt drawn from those that
    there are; 0 leaves the table out.
    """

    bootstrap: int = Field(2000, ge=100)
    seed: int = 0
    set_metrics: list[str] = Field(default_factory=list)
    reference_images: str = ""
    trials: int = Field(100, ge=0)
    trial_seeds: list[int] = Field(default_factory=lambda: [1, 3])
    plateau: PlateauParams = PlateauParams()


class PackageParams(Section):
    """Stage package."""

    name: str = "catimage"
