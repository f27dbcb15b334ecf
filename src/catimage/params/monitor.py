"""The section ``monitor`` of ``params.yaml``: the checks of the running service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from catimage.params.section import Section

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]


class PromptDriftParams(Section):
    """Drift of the prompts (:mod:`catimage.monitoring.prompt_drift`).

    Attributes:
        tolerance: an alarm needs an AUC that exceeds that of the baseline by this. The AUC is the
            probability that recent prompts can be distinguished from training prompts, from 0.5
            (not at all) to 1.
        baseline_prompts: number of prompts after a training whose AUC is the baseline.
        max_baseline: the largest baseline; traffic that differs more from the training prompts from
            the start raises an alarm. Traffic like a share s of the training prompts and unlike the
            others has the AUC 1 - s / 2; the default allows a share of 40%.
    """

    tolerance: float = Field(0.1, gt=0, lt=0.4)
    baseline_prompts: int = Field(500, ge=0)
    max_baseline: float = Field(0.8, ge=0.5, lt=1)


class StreamParams(Section):
    """Streaming detectors of river (ADWIN) of changes compared with recent traffic.

    Attributes:
        delta: confidence value of ADWIN; smaller values give fewer false alarms.
        window: number of recent requests that are kept.
    """

    delta: Share = 1e-6
    window: int = Field(1000, ge=100, le=20_000)


class DecisionDriftParams(Section):
    """Drift of the decisions.

    Attributes:
        max_change: an alarm needs a candidate whose share of the decisions differs from its
            expected share by more than this.
    """

    max_change: Share = 0.15


class CostDriftParams(Section):
    """Cost against the budget.

    Attributes:
        max_excess: an alarm needs a mean cost above the budget by more than this share of it.
    """

    max_excess: float = Field(0.05, ge=0, allow_inf_nan=False)


class AuditParams(Section):
    """Predicted against measured quality: logged prompts are generated again and scored.

    Attributes:
        prompts: number of logged prompts per interval that are audited; 0 disables the audit.
        candidates: candidates to generate for each prompt. By default the selected one and another
            one, which is drawn at random, without candidates of hosted models, which are paid.
        seed: seed of the images.
        max_bias: an alarm needs a mean of predicted minus measured quality outside plus or minus
            this number of standard deviations of the labels.
        days: age in days up to which audits count in the reported interval.
    """

    prompts: int = Field(4, ge=0, le=100)
    candidates: list[str] = Field(default_factory=list)
    seed: int = Field(0, ge=0)
    max_bias: Positive = 0.5
    days: Positive = 7.0


class MonitorParams(Section):
    """The command monitor. An alarm of any check triggers the flow retrain.

    Attributes:
        interval_minutes: the command processes whole intervals of this length.
        delay_seconds: time after the end of an interval until its rows are read.
        max_requests: number of requests per interval that are tested; of more, a random sample.
        false_alarm_days: mean number of days between two false alarms of one check.
        cooldown_hours: time after an alarm in which the same check raises no further alarm.
        prompts: drift of the prompts.
        streams: streaming detectors of river.
        decisions: drift of the decisions.
        cost: cost against the budget.
        audit: predicted against measured quality.
    """

    interval_minutes: Positive = 60.0
    delay_seconds: float = Field(60.0, ge=0, allow_inf_nan=False)
    max_requests: int = Field(100, ge=1)
    false_alarm_days: Positive = 1000.0
    cooldown_hours: float = Field(24.0, ge=0, allow_inf_nan=False)
    prompts: PromptDriftParams = PromptDriftParams()
    streams: StreamParams = StreamParams()
    decisions: DecisionDriftParams = DecisionDriftParams()
    cost: CostDriftParams = CostDriftParams()
    audit: AuditParams = AuditParams()

    def threshold(self, per_interval: int) -> float:
        """Return the mean number of observations between false alarms of a check.

        Args:
            per_interval: maximum number of observations per interval.
        """
        return self.false_alarm_days * 24 * 60 / self.interval_minutes * per_interval
