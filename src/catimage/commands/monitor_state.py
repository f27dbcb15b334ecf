"""The state of the monitor between its runs: a JSON file that is replaced atomically."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from catimage.common.files import damage_reported, read_json
from catimage.errors import InputError
from catimage.monitoring.report import MonitorReport
from catimage.workspace import replacing

FORMAT = 1
"""Version of the format of the file."""


@dataclass
class MonitorState:
    """The state between runs.

    Attributes:
        report: the last report; None before the first run.
        checks: the state of each check, by name.
        last_alarms: time of the last alarm of each check, by name.
        counts: number of rows of the last intervals, by start of the interval in ISO format.
        reference: digest of the embeddings of the training prompts.
        recent_prompts: recent prompts, which do not count again
            (:func:`~catimage.monitoring.traffic.new_prompts`).
        served: digest and version of the router whose decisions the last run checked
            (:class:`~catimage.commands.monitor_champion.ServedRouter`); None before the first run.
        expected: the expected behaviour of this router
            (:class:`~catimage.monitoring.expected.Expected`); None before the first run.
    """

    report: MonitorReport | None = None
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    last_alarms: dict[str, datetime] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    reference: str = ""
    recent_prompts: list[str] = field(default_factory=list)
    expected: dict[str, Any] | None = None
    served: dict[str, str] | None = None

    def forget(self, *names: str) -> None:
        """Forget the state of checks, because the training prompts or the router have changed."""
        for name in names:
            self.checks.pop(name, None)
            self.last_alarms.pop(name, None)

    def after(self, report: MonitorReport) -> MonitorState:
        """Return the state after a run."""
        return replace(self, report=report)

    def to_json(self) -> dict[str, Any]:
        """Return the state as a JSON object."""
        return {
            "format": FORMAT,
            "report": self.report.to_document() if self.report else None,
            "checks": self.checks,
            "last_alarms": {name: time.isoformat() for name, time in self.last_alarms.items()},
            "counts": self.counts,
            "reference": self.reference,
            "recent_prompts": self.recent_prompts,
            "expected": self.expected,
            "served": self.served,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Return the state that :meth:`to_json` wrote."""
        report = document["report"]
        return cls(
            report=MonitorReport.from_document(report) if report else None,
            checks=document["checks"],
            last_alarms={
                name: datetime.fromisoformat(time) for name, time in document["last_alarms"].items()
            },
            counts=document["counts"],
            reference=document["reference"],
            recent_prompts=document.get("recent_prompts", []),  # not in earlier versions' files
            expected=document["expected"],
            served=document.get("served"),
        )


def read_state(path: Path) -> MonitorState:
    """Read the state; without a file, it is that before the first run.

    Raises:
        InputError: the file is damaged, or another version of CATImage wrote it.
    """
    if not path.exists():
        return MonitorState()
    fix = "Delete it; the next run starts without earlier evidence"
    try:
        document = read_json(path, "monitor")
        if document.get("format") != FORMAT:
            raise InputError(f"{path}: another version of CATImage wrote the file. {fix}.")
        with damage_reported(path, "monitor"):
            return MonitorState.from_json(document)
    except InputError as error:
        if "is damaged" in str(error):
            raise InputError(f"{path}: the file is damaged. {fix}.") from error
        raise


def check_clock(path: Path, state: MonitorState, now: datetime, minutes: float) -> None:
    """Check that the last run was not more than an interval later than now.

    Args:
        path: the file of the state.
        state: the state.
        now: the present time.
        minutes: the length of an interval.

    Raises:
        InputError: it was, so the clock was ahead in that run, or is behind now.
    """
    last = state.report.until if state.report else now
    if last > now + timedelta(minutes=minutes):
        raise InputError(
            f"{path}: the last run processed the log up to {last:%Y-%m-%d %H:%M} UTC, but now it is"
            f" {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC. Correct the clock; if it was ahead in that"
            " run, delete the file, and the next run starts without earlier evidence."
        )


def write_state(path: Path, state: MonitorState) -> None:
    """Replace the state."""
    write_json(path, state.to_json())


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Replace a JSON file atomically."""
    with replacing(path) as new:
        new.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
