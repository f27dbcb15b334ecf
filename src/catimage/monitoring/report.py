"""The report of a run of the monitor, ``reports/monitor.json``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from catimage.monitoring.outcome import CheckResult

FORMAT = 1
"""Version of the format of the report."""


@dataclass(frozen=True)
class MonitorReport:
    """The results of all checks of the rows of the decision log in some intervals.

    Attributes:
        since: start of the first interval.
        until: end of the last interval.
        requests: number of rows in these intervals.
        late: number of rows of earlier intervals that were not there in the last run.
        checks: the results, in a fixed order.
    """

    since: datetime
    until: datetime
    requests: int
    late: int
    checks: tuple[CheckResult, ...]

    @property
    def alarms(self) -> list[str]:
        """The names of the checks that raise an alarm in this run."""
        return [check.check for check in self.checks if check.status == "alarm"]

    @property
    def sentences(self) -> list[str]:
        """One sentence per check, and first one on the rows."""
        late = f", {self.late:,} late rows of earlier intervals ignored" if self.late else ""
        first = (
            f"monitor: {self.requests:,} requests from {_text(self.since)} to {_text(self.until)}"
            f"{late}"
        )
        return [first, *(f"{c.check}: {c.status}: {c.message}" for c in self.checks)]

    def to_document(self) -> dict[str, Any]:
        """Return the report as a JSON object; docs/monitoring.md describes the keys."""
        return {
            "format": FORMAT,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "requests": self.requests,
            "late": self.late,
            "alarms": self.alarms,
            "checks": [check.to_document() for check in self.checks],
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Return the report that :meth:`to_document` wrote."""
        return cls(
            datetime.fromisoformat(document["since"]),
            datetime.fromisoformat(document["until"]),
            document["requests"],
            document["late"],
            tuple(CheckResult(**check) for check in document["checks"]),
        )


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC")
