"""The result of one check, and the rule by which evidence becomes an alarm."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

Status = Literal["ok", "alarm", "paused", "skipped", "failed"]


@dataclass(frozen=True)
class CheckOutcome:
    """What a check found in one run.

    Attributes:
        state: the state of the check after the run, for JSON.
        restarted: the state without evidence, which is kept after an alarm.
        evidence: evidence of a change as a share of that of an alarm, on a logarithmic scale: an
            alarm is raised from 1.
        observations: number of observations in this run.
        message: one sentence about the observations.
        details: further figures, for JSON.
    """

    state: dict[str, Any]
    restarted: dict[str, Any]
    evidence: float
    observations: int
    message: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckResult:
    """The result of a check, as in ``reports/monitor.json``.

    Attributes:
        check: ``prompts``, ``streams``, ``decisions``, ``cost`` or ``quality``.
        status: ``alarm`` in the run that raises an alarm; ``paused`` until the cooldown after it
            ends; ``skipped`` if there is nothing to test, ``failed`` if the check could not be run;
            otherwise ``ok``.
        message: one sentence.
        evidence: see :class:`CheckOutcome`; None if the check was skipped or has failed.
        observations: number of observations in this run.
        last_alarm: time of the last alarm in ISO format; None without one.
        details: further figures.
    """

    check: str
    status: Status
    message: str
    evidence: float | None = None
    observations: int = 0
    last_alarm: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """Return the attributes as a JSON object."""
        return asdict(self)


def evidence_share(log_evidence: float, threshold: float) -> float:
    """Return evidence as a share of the threshold on a logarithmic scale, at least 0.

    Args:
        log_evidence: the logarithm of the evidence; minus infinity for no evidence.
        threshold: the evidence of an alarm, above 1.
    """
    return max(log_evidence, 0.0) / math.log(threshold)


def judged(
    name: str,
    outcome: CheckOutcome,
    last_alarm: datetime | None,
    until: datetime,
    cooldown: timedelta,
) -> tuple[CheckResult, dict[str, Any]]:
    """Decide whether a check raises an alarm.

    Within the cooldown after an alarm, no evidence is collected, so that a drift that lasts raises
    a new alarm some time after the cooldown, and one that has ended does not.

    Args:
        name: the name of the check.
        outcome: what the check found.
        last_alarm: time of the last alarm of the check; None without one.
        until: end of the last interval.
        cooldown: time after an alarm without a further alarm.

    Returns:
        The result, and the state of the check to keep.
    """
    status: Status = "ok"
    state, message = outcome.state, outcome.message
    if last_alarm is not None and until < last_alarm + cooldown:
        status, state = "paused", outcome.restarted
        message += f" No further alarm until {_text(last_alarm + cooldown)}."
    elif outcome.evidence >= 1:
        status, state, last_alarm = "alarm", outcome.restarted, until
    result = CheckResult(
        name,
        status,
        message,
        round(outcome.evidence, 4),
        outcome.observations,
        last_alarm.isoformat() if last_alarm else None,
        outcome.details,
    )
    return result, state


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC")
