"""Sections of ``params.yaml`` for the stages evaluate and package, and for promotion."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from catimage.params.section import Section


class PlateauMetricParams(Section):
    """A metric of the plateau rule (BudgetFusion paper, equation 7).

    Attributes:
        weight: the weight omega; by default it is calibrated.
        estimator: name of the estimator that predicts the metric at every step count; by default
            that of :class:`PlateauParams`. The paper (section 3.3) trains the estimator of one
            metric, I-CLIP, for another number of epochs than the estimators of the other metrics.
    """

    weight: float | None = Field(None, allow_inf_nan=False)
    estimator: str = ""


class PlateauParams(Section):
    """The plateau rule of the BudgetFusion paper, which selects a step count for each prompt.

    The rule is evaluated if ``metrics`` is not empty.

    Attributes:
        metrics: the metrics of the rule, by name.
        estimator: name of the estimator that predicts the metrics at every step count.
        budget: mean cost per image to which the weights are calibrated, in the cost unit or in
            percent of the cost of the largest step count (``40%``). If it is empty, the weights
            maximise the gain in quality over one step count for all prompts at the same mean cost.
        literal: whether to apply equation 7 as printed; it selects the most steps for a metric that
            increases with the number of steps.
        margin: a step count whose value is at most ``margin`` times the range of the series below
            the highest value reaches the plateau for any weight; 0 disables this. A series has the
            values of one metric and prompt at all step counts.
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
        set_metrics: metrics of sets of images, such as ``fid``.
        reference_images: folder of real images with which generated images are compared. If it is
            empty, the scenes that the test prompts describe are rendered.
        trials: number of random trials of Table 1 of the CATImage paper; 0 omits the table.
        trial_seeds: numbers of images per prompt and candidate from which the labels of a trial are
            computed; the trials are repeated for each number.
        plateau: the plateau rule of the BudgetFusion paper.
    """

    bootstrap: int = Field(2000, ge=100)
    seed: int = 0
    set_metrics: list[str] = Field(default_factory=list)
    reference_images: str = ""
    trials: int = Field(100, ge=0)
    trial_seeds: list[int] = Field(default_factory=lambda: [1, 3])
    plateau: PlateauParams = PlateauParams()


class GroupParams(Section):
    """A group of generators, which share a process and the memory of a device.

    Attributes:
        generators: names of generators of the pool.
        device: device of the group: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. BentoML gives a
            group with the device ``cuda`` a GPU of its own. By default ``generate.device``.
    """

    generators: list[str] = Field(min_length=1)
    device: str = Field("", pattern=r"^(|auto|cpu|cuda(:[0-9]+)?)$")


class PackageParams(Section):
    """Stage package.

    Attributes:
        name: name of the Bento that the stage builds.
        groups: the generator services of the Bento, by name. By default, the service
            ``generators`` has all generators that need a device, and the service ``hosted`` those
            of hosted models.
    """

    name: str = "catimage-service"
    groups: dict[str, GroupParams] = Field(default_factory=dict)

    @field_validator("groups")
    @classmethod
    def _names(cls, groups: dict[str, GroupParams]) -> dict[str, GroupParams]:
        for name in groups:
            if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", name) or name == "router":
                raise ValueError(
                    f"the name {name!r} of a group must be lower-case letters, digits and hyphens,"
                    " and not 'router'"
                )
        generators = [name for group in groups.values() for name in group.generators]
        if repeated := sorted({name for name in generators if generators.count(name) > 1}):
            raise ValueError(f"the generators {', '.join(repeated)} are in two groups")
        return groups


class PromoteParams(Section):
    """Promotion of a registered router to champion (:mod:`catimage.tracking.gate`).

    Attributes:
        rule: ``better`` promotes a router with a better objective than the champion, ``not_worse``
            a router whose objective is below that of the reference by less than ``margin``. The
            reference is the last router that was promoted because it was better.
        margin: the margin of ``not_worse``, in the unit of the routed metric.
        confidence: confidence of the one-sided lower bound of the gain that a rule uses.
        max_latency_ratio: largest ratio of the challenger's median time of a decision to that of
            the champion (:mod:`catimage.tracking.overhead`).
        max_memory_ratio: the same ratio of their arrays in memory.
        approval: whether a person has to approve a promotion. The flow ``retrain`` then pauses,
            and ``catimage register`` leaves the promotion to ``catimage promote``.
        approval_hours: the longest time that the flow waits for the answer; the champion then stays
            unchanged.
    """

    rule: Literal["better", "not_worse"] = "better"
    margin: float = Field(0.0, ge=0, allow_inf_nan=False)
    confidence: float = Field(0.95, ge=0.5, lt=1)
    max_latency_ratio: float = Field(2.0, ge=1, allow_inf_nan=False)
    max_memory_ratio: float = Field(2.0, ge=1, allow_inf_nan=False)
    approval: bool = False
    approval_hours: float = Field(12.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _margin_of_rule(self) -> Self:
        if self.rule == "not_worse" and not self.margin:
            raise ValueError("the rule not_worse needs a margin above 0")
        return self
