"""All parameters of ``params.yaml``."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from catimage.errors import InputError
from catimage.params.data import (
    EncoderParams,
    GenerateParams,
    ImportParams,
    LabelParams,
    SampleParams,
    ValidateParams,
)
from catimage.params.evaluate import EvaluateParams, PackageParams
from catimage.params.section import Section
from catimage.params.train import CalibrateParams, TrainParams


class Params(Section):
    """All parameters. Sections are named after the stages.

    Attributes:
        pool: name or path of the pool's YAML file.
        metric: the metric that the router maximises.
        cost_unit: unit of the costs: ``tflops``, ``seconds``, ``usd`` or ``wh``.
        budget: mean cost per image, in ``cost_unit`` or in percent of the most expensive candidate.
        encoder: the text encoder of the router.
        imported: properties of imported data; None in a workspace that was not imported.
    """

    pool: str = "tiny"
    metric: str = "clip_score"
    cost_unit: str = "tflops"
    budget: str = "40%"
    encoder: EncoderParams = EncoderParams()
    sample: SampleParams = SampleParams()
    generate: GenerateParams = GenerateParams()
    label: LabelParams = LabelParams()
    validation: ValidateParams = Field(ValidateParams(), alias="validate")
    train: TrainParams = TrainParams()
    calibrate: CalibrateParams = CalibrateParams()
    evaluate: EvaluateParams = EvaluateParams()
    package: PackageParams = PackageParams()
    imported: ImportParams | None = Field(None, alias="import")

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> str:
        text = str(value).strip()
        number = text.removesuffix("%")
        try:
            ok = 0 < float(number) < float("inf")
        except ValueError:
            ok = False
        if not ok:
            raise ValueError(
                "must be a positive number in the cost unit, or a percentage such as '40%'"
            )
        return text

    def budget_in(self, most_expensive: float) -> float:
        """Return the budget in the cost unit.

        Args:
            most_expensive: cost of the most expensive candidate, for a budget in percent.
        """
        return (
            float(self.budget[:-1]) / 100 * most_expensive
            if self.budget.endswith("%")
            else float(self.budget)
        )

    def check_not_imported(self, stage: str) -> None:
        """Raise InputError if the data were imported, as ``stage`` would replace them."""
        if self.imported is not None:
            raise InputError(
                f"params.yaml: stage {stage} would replace the data of this workspace, which"
                f" 'import-{self.imported.kind}' imported. Do not run the stage, or remove the key"
                " 'import'."
            )

    @property
    def trained_metrics(self) -> list[str]:
        """The metrics to train: the routed metric, then the others of ``train.metrics``."""
        return [self.metric, *(m for m in self.train.metrics if m != self.metric)]
