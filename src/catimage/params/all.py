"""Typed parameters: ``params.yaml``, its defaults, and ``--set key=value``."""

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
    """All of ``params.yaml``. Sections are named after the stages."""

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

    def budget_in(self, dearest: float) -> float:
        """The budget in the cost unit; a percentage is of the ``dearest`` candidate's cost."""
        return (
            float(self.budget[:-1]) / 100 * dearest
            if self.budget.endswith("%")
            else float(self.budget)
        )

    def check_not_imported(self, stage: str) -> None:
        """Stops a stage that would replace what was imported.

        Raises:
            InputError: the workspace was imported.
        """
        if self.imported is not None:
            what = f"this workspace was made by 'import-{self.imported.kind}'"
            raise InputError(
                f"params.yaml: {what}, and stage {stage} would replace its data: leave the stage"
                " out, or remove 'import'."
            )

    @property
    def trained_metrics(self) -> list[str]:
        """The routed metric first, then the others of ``train.metrics``."""
        return [self.metric, *(m for m in self.train.metrics if m != self.metric)]
