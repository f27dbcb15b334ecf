"""All parameters of ``params.yaml``."""

from __future__ import annotations

from typing import Any, Literal

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
from catimage.params.evaluate import EvaluateParams, PackageParams, PromoteParams
from catimage.params.gc import GcParams
from catimage.params.monitor import MonitorParams
from catimage.params.section import FolderName, Section
from catimage.params.serving import ServingParams
from catimage.params.train import CalibrateParams, TrainParams


class Params(Section):
    """All parameters. Each further section has the parameters of the stage of the same name.

    Attributes:
        pool: name of a pool, or path of its YAML file.
        metric: the metric that the router maximises.
        cost_unit: unit of the costs: ``tflops``, ``seconds``, ``usd`` or ``wh``; ``unit`` for
            imported costs in another unit.
        budget: mean cost per image, in ``cost_unit`` (``12.5``) or in percent of the cost of the
            most expensive candidate (``40%``).
        encoder: the text encoder of the router.
        validation: the section ``validate``.
        promote: promotion of a registered router.
        serving: settings of the service.
        gc: what ``catimage gc`` keeps.
        monitor: the checks of the running service.
        imported: the section ``import``, properties of imported data; None in a workspace whose
            data were generated.
    """

    pool: str = "tiny"
    metric: FolderName = "clip_score"
    cost_unit: Literal["tflops", "seconds", "usd", "wh", "unit"] = "tflops"
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
    promote: PromoteParams = PromoteParams()
    serving: ServingParams = ServingParams()
    gc: GcParams = GcParams()
    monitor: MonitorParams = MonitorParams()
    imported: ImportParams | None = Field(None, alias="import")

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> str:
        text = str(value).strip()
        number = text.removesuffix("%")
        try:
            valid = 0 < float(number) < float("inf")
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(
                "must be a positive number in the cost unit, or a percentage such as '40%'"
            )
        return text

    def budget_as_cost(self, highest_cost: float) -> float:
        """Return the budget as a mean cost per image, in the cost unit.

        Args:
            highest_cost: cost of the most expensive candidate, to which a percentage refers.
        """
        return (
            float(self.budget[:-1]) / 100 * highest_cost
            if self.budget.endswith("%")
            else float(self.budget)
        )

    @property
    def gate_share(self) -> float:
        """Share of the prompts in the split ``gate``, of section ``import`` or ``sample``."""
        return self.sample.gate_share if self.imported is None else self.imported.gate_share

    def check_not_imported(self, stage: str) -> None:
        """Raise InputError if the data were imported, because ``stage`` would replace them."""
        if self.imported is not None:
            raise InputError(
                f"params.yaml: stage {stage} would replace the data of this workspace, which"
                f" 'catimage import-{self.imported.kind}' imported. Do not run the stage, or run it"
                " in another workspace."
            )

    @property
    def trained_metrics(self) -> list[str]:
        """The metrics to train: the routed metric, then the others of ``train.metrics``."""
        return [self.metric, *(m for m in self.train.metrics if m != self.metric)]
