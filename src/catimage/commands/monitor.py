"""``catimage monitor``: checks the rows of the decision log since the last run.

The state between runs is the file ``.catimage/monitor.json`` of the workspace, which contains the
last report too: a second run in the same interval returns it unchanged. A run that is killed leaves
the state of the run before, and the next run processes the same rows again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from catimage.commands.monitor_champion import ServedRouter, served_router
from catimage.commands.monitor_inputs import encode_prompts, find_expected, reference_prompts
from catimage.commands.monitor_state import (
    MonitorState,
    check_clock,
    read_state,
    write_json,
    write_state,
)
from catimage.commands.prerequisites import check_prerequisites
from catimage.common.arrays import Float32
from catimage.data.audits import add_audits
from catimage.data.decisions import read_decisions
from catimage.data.shards.lock import write_lock
from catimage.errors import InputError
from catimage.metrics.registry import lower_is_better
from catimage.monitoring.audit import audit, auditable
from catimage.monitoring.checks import (
    SERVICE,
    check_cost,
    check_decisions,
    check_prompts,
    check_streams,
    quality_stream,
)
from catimage.monitoring.expected import Expected
from catimage.monitoring.outcome import CheckOutcome, CheckResult, judged
from catimage.monitoring.quality import check_quality
from catimage.monitoring.reference import Reference
from catimage.monitoring.report import MonitorReport
from catimage.monitoring.traffic import (
    LATE_INTERVALS,
    embeddings_of,
    interval_start,
    new_prompts,
    row_counts,
    sampled,
    without_duplicates,
)
from catimage.params import MonitorParams, Params
from catimage.pool.loading import load_pool
from catimage.serving.settings import load_environment
from catimage.workspace import Workspace

FIRST_INTERVALS = 24
"""Number of intervals that the first run processes."""
OF_THE_ROUTER = ("decisions", "cost", "quality")
"""The checks that compare requests with the router that decided them."""
LONGEST = timedelta(days=7)
"""Rows older than this are not processed, if the command has not run for longer."""


def monitor(
    workspace: Workspace,
    params: Params,
    decisions: Path | None = None,
    now: datetime | None = None,
) -> MonitorReport:
    """Check all complete intervals since the last run, and write ``reports/monitor.json``.

    Args:
        workspace: the workspace of the router that the service uses.
        params: the parameters of the workspace.
        decisions: the folder of the decision log; by default that of the service.
        now: the present time, with a time zone; by default that of the computer.

    Returns:
        The report. A second call in the same interval returns the report of the first one.

    Raises:
        InputError: ``decisions`` does not exist, a file of the workspace or of the log is missing
            or damaged, another process is monitoring the workspace, or the clock was ahead in the
            last run.
    """
    check_prerequisites(workspace, params, "monitor")
    folder = _decisions_folder(params, decisions)
    settings, time = params.monitor, now or datetime.now(UTC)
    until = interval_start(
        time - timedelta(seconds=settings.delay_seconds), settings.interval_minutes
    )
    with write_lock(workspace.monitor_state):
        state = read_state(workspace.monitor_state)
        check_clock(workspace.monitor_state, state, time, settings.interval_minutes)
        if state.report is not None and until <= state.report.until:
            write_json(workspace.reports / "monitor.json", state.report.to_document())
            return state.report
        report = _Run(workspace, params, folder, state, until).report()
        write_json(workspace.reports / "monitor.json", report.to_document())
        write_state(workspace.monitor_state, state.after(report))
    return report


def _decisions_folder(params: Params, folder: Path | None) -> Path:
    if folder is None:
        return load_environment().decision_log(params.package.name)
    if not folder.is_dir():
        raise InputError(f"--decisions {folder}: folder not found. Give that of the decision log.")
    return folder


class _Run:
    """A run of all checks; it changes the state in memory."""

    def __init__(
        self,
        workspace: Workspace,
        params: Params,
        folder: Path,
        state: MonitorState,
        until: datetime,
    ) -> None:
        self.workspace, self.params, self.state, self.until = workspace, params, state, until
        self.settings: MonitorParams = params.monitor
        length = timedelta(minutes=self.settings.interval_minutes)
        first = until - FIRST_INTERVALS * length
        self.since = max(state.report.until if state.report else first, until - LONGEST)
        rows = read_decisions(folder, self.since - LATE_INTERVALS * length, until)
        rows = without_duplicates(rows)
        earlier, self.rows = rows[rows["time"] < self.since], rows[rows["time"] >= self.since]
        counts = row_counts(earlier, self.settings.interval_minutes)
        self.late = sum(max(n - state.counts.get(s, n), 0) for s, n in counts.items())
        state.counts = counts | row_counts(self.rows, self.settings.interval_minutes)
        self.points: tuple[Float32, int] | None = None
        self.repeated, self.training = 0, frozenset[str]()
        self.sample = self._sampled(self.rows)
        self.served: ServedRouter = served_router(workspace, self.rows, state)
        self.decided = self.served.decided(self.rows)

    def _sampled(self, rows: pd.DataFrame) -> pd.DataFrame:
        return sampled(rows, self.settings.interval_minutes, self.settings.max_requests)

    def report(self) -> MonitorReport:
        """Run all checks."""
        found = reference_prompts(self.workspace, self.params, self.state)
        reference, self.training = found or (None, frozenset[str]())
        expected = find_expected(self.workspace, self.params, self.state, self.served)
        service = self._sampled(self.decided)
        service = service[service["scope"] == SERVICE]
        paid = service[service["unit"] == self.params.cost_unit]
        checks: dict[str, Callable[[dict[str, Any]], CheckOutcome | str]] = {
            "prompts": lambda state: self._prompts(state, reference),
            "streams": lambda state: check_streams(
                state, self._streams(reference, expected()), self.settings
            ),
            "decisions": lambda state: check_decisions(state, service, expected(), self.settings),
            "cost": lambda state: check_cost(state, paid, expected(), self.settings),
            "quality": lambda state: self._quality(state, expected),
        }
        results = tuple(self._result(name, check) for name, check in checks.items())
        return MonitorReport(self.since, self.until, len(self.rows), self.late, results)

    def _result(
        self, name: str, check: Callable[[dict[str, Any]], CheckOutcome | str]
    ) -> CheckResult:
        """Run a check; if it cannot be run, the others still are, and its state is kept."""
        last = self.state.last_alarms.get(name)
        try:
            outcome = check(self.state.checks.get(name, {}))
        except InputError as error:
            return CheckResult(name, "failed", str(error), last_alarm=_iso(last))
        if isinstance(outcome, str):
            return CheckResult(name, "skipped", outcome, last_alarm=_iso(last))
        if name in OF_THE_ROUTER:
            outcome = replace(outcome, message=outcome.message + self.served.remark(self.rows))
        cooldown = timedelta(hours=self.settings.cooldown_hours)
        result, self.state.checks[name] = judged(name, outcome, last, self.until, cooldown)
        if result.status == "alarm":
            self.state.last_alarms[name] = self.until
        return result

    def _points(self, reference: Reference) -> tuple[Float32, int]:
        """Return the coordinates of new prompts, and the number of those without embedding."""
        if self.points is None:
            rows, recent = new_prompts(self.sample, self.training, self.state.recent_prompts)
            width, encode = len(reference.centre), partial(encode_prompts, self.params)
            embeddings, without = embeddings_of(rows, width, encode)
            self.points = reference.coordinates(embeddings), without
            self.repeated, self.state.recent_prompts = len(self.sample) - len(rows), recent
        return self.points

    def _prompts(self, state: dict[str, Any], reference: Reference | None) -> CheckOutcome | str:
        if reference is None:
            return f"data/embeddings has no embeddings of the encoder {self.params.encoder.name!r}."
        points, without = self._points(reference)
        if without and not len(points):
            return (
                "the logged requests have neither a prompt nor an embedding of the width of the"
                f" training prompts' ({len(reference.centre)}). Set serving.log_prompts to true, or"
                f" serve a router that uses the encoder {self.params.encoder.name!r}."
            )
        return check_prompts(state, reference, points, self.settings, self.repeated)

    def _streams(self, reference: Reference | None, expected: Expected) -> dict[str, list[float]]:
        streams = {"quality": quality_stream(self._sampled(self.decided), expected)}
        if reference is not None:
            points, _ = self._points(reference)
            streams["distance"] = reference.distance_ranks(points).tolist()
        return streams

    def _quality(self, state: dict[str, Any], find: Callable[[], Expected]) -> CheckOutcome | str:
        """Audit a sample of the requests, and test the errors of the predictions."""
        params, per_interval = self.params, self.settings.audit.prompts
        if per_interval == 0:
            return "monitor.audit.prompts is 0."
        if params.imported is not None:
            return "the data were imported, so images cannot be generated."
        expected = find()
        if expected.label_spread is None:
            return "the workspace has no labels of the routed metric."
        if len(self.rows) and self.rows["prompt"].isna().all():
            return "the decision log has no prompts. Set serving.log_prompts to true."
        rows = sampled(auditable(self.decided), self.settings.interval_minutes, per_interval)
        new = audit(rows, load_pool(params.pool, self.workspace.pools), params)
        table = add_audits(self.workspace.audits, new)
        table = self.served.decided(table[table["metric"] == params.metric])
        lower = lower_is_better(params.metric, params.label, params.imported)
        return check_quality(state, new, table, self.until, expected, lower, self.settings)


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
