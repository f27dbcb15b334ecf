"""The decision log: one row per routed request, written by one thread in parquet files.

The log never delays or fails a request: if the disk cannot keep up or is full, rows are dropped and
counted.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from catimage.serving.messages import ImageRequest, Result, Routed, RouteRequest
from catimage.serving.telemetry.metrics import Metrics

_LOGGER = logging.getLogger("catimage.serving.decision_log")
_HOUR = 3600.0
FLUSH_SECONDS = 5.0
"""Default of the longest time between a decision and its file."""


@dataclass(frozen=True)
class LoggedDecision:
    """A decision and its outcome.

    Attributes:
        request: the request.
        routed: the decision.
        result: what was returned; None if no image was returned.
        status: HTTP status of the response; 499 if the client disconnected.
        seconds: time from the arrival of the request to the last image.
        unit: the cost unit.
        time: time at which the request ended.
    """

    request: RouteRequest
    routed: Routed
    result: Result | None
    status: int
    seconds: float
    unit: str
    time: datetime


class DecisionLog:
    """Writes decisions to files in a folder.

    Args:
        folder: the folder; it is created with the first file.
        replica: identifier of this router process, which no other running process has.
        secret: key of the hashes of user ids.
        metrics: where written and dropped rows are counted.
        log_prompts: whether the rows contain the prompts.
        days: age in days at which files are deleted.
        flush_seconds: maximum time between a decision and its file.
        flush_rows: number of rows at which a file is written earlier.
        capacity: maximum number of rows in memory; further rows are dropped.
    """

    def __init__(
        self,
        folder: Path,
        replica: str,
        secret: bytes,
        metrics: Metrics,
        *,
        log_prompts: bool = False,
        days: float = 30.0,
        flush_seconds: float = FLUSH_SECONDS,
        flush_rows: int = 1000,
        capacity: int = 20_000,
    ) -> None:
        self._folder, self._replica, self._secret, self._metrics = folder, replica, secret, metrics
        self._log_prompts, self._retention = log_prompts, timedelta(days=days)
        self._flush_seconds, self._flush_rows = flush_seconds, flush_rows
        self._queue: queue.Queue[LoggedDecision | None] = queue.Queue(capacity)
        self._number, self._merged, self._failing = 0, 0.0, False
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    def append(self, decision: LoggedDecision) -> None:
        """Add a row, which is written later; it is dropped if too many rows wait."""
        if not self._thread.is_alive():
            self._metrics.add("catimage_decisions_dropped_total", reason="closed")
            return
        try:
            self._queue.put_nowait(decision)
        except queue.Full:
            self._metrics.add("catimage_decisions_dropped_total", reason="full")

    def close(self, timeout: float = 10.0) -> None:
        """Write the rows that wait.

        Args:
            timeout: maximum time in seconds.
        """
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):  # the disk does not keep up
                self._queue.put(None, timeout=timeout)
            self._thread.join(timeout)
        if lost := self._queue.qsize():
            self._metrics.add("catimage_decisions_dropped_total", lost, reason="closed")
            _LOGGER.error("decision log: %d rows were not written in time", lost)

    def _run(self) -> None:
        running = True
        while running:
            rows, running = self._collect()
            if rows:
                self._attempt(lambda rows=rows: self._write(rows), len(rows))  # type: ignore[misc]
            if not running or time.monotonic() - self._merged > _HOUR or not self._merged:
                self._merged = time.monotonic()
                self._attempt(lambda final=not running: self._clean(final), 0)  # type: ignore[misc]

    def _collect(self) -> tuple[list[LoggedDecision], bool]:
        """Wait for rows; return them, and False after :meth:`close`."""
        rows: list[LoggedDecision] = []
        end = time.monotonic() + self._flush_seconds
        while len(rows) < self._flush_rows and (left := end - time.monotonic()) > 0:
            try:
                row = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if row is None:
                return rows, False
            rows.append(row)
        return rows, True

    def _attempt(self, action: Callable[[], None], rows: int) -> None:
        """Run an action; count and report the rows that are lost if it fails."""
        try:
            action()
            self._failing = self._failing and not rows
        except Exception as error:
            if rows:
                self._metrics.add("catimage_decisions_dropped_total", rows, reason="failed")
            if not self._failing:  # one line until the next success
                _LOGGER.error(
                    "CATIMAGE_LOG_FOLDER: the decision log cannot be written. Check %s.",
                    self._folder,
                    exc_info=error,
                )
            self._failing = True

    def _write(self, rows: list[LoggedDecision]) -> None:
        from catimage.data.decisions import write_decisions

        write_decisions(self._folder, self._replica, self._number, [self._row(r) for r in rows])
        self._number += 1
        self._metrics.add("catimage_decisions_logged_total", len(rows))

    def _clean(self, final: bool) -> None:
        from catimage.data.decisions import delete_old_decisions, merge_decisions

        if not self._folder.exists():
            return
        now = datetime.now(UTC)
        hour = now.replace(minute=0, second=0, microsecond=0)
        merge_decisions(self._folder, self._replica, now if final else hour)
        delete_old_decisions(self._folder, now - self._retention)

    def _row(self, logged: LoggedDecision) -> dict[str, Any]:
        from catimage.data.prompts.identity import prompt_id

        request, routed, result = logged.request, logged.routed, logged.result
        return {
            "time": logged.time,
            "request_id": request.request_id,
            "key_id": request.key.key_id if request.key else None,
            "user": self._user(request),
            "prompt_id": prompt_id(request.prompt),
            "prompt": request.prompt if self._log_prompts else None,
            "embedding": _embedding(routed),
            "router_version": routed.router_version,
            "scope": routed.scope,
            "lambda": routed.lam,
            "pressure": routed.pressure,
            "candidate": routed.candidate,
            "propensities": list(routed.propensities.items()),
            "qualities": list(routed.qualities.items()),
            "shadow": routed.shadow,
            "predicted_quality": routed.qualities.get(routed.candidate),
            "served": result.candidate if result else None,
            "images": request.n if result else 0,
            "cost": result.cost if result else 0.0,
            "saved": result.saved if result else 0.0,
            "unit": logged.unit,
            "seconds": logged.seconds,
            "status": logged.status,
            "score": None,
        }

    def _user(self, request: RouteRequest) -> str | None:
        """Return a keyed hash of the user of a request, from which the user cannot be guessed."""
        user = request.user if isinstance(request, ImageRequest) else None
        return user_hash(self._secret, user) if user else None


def user_hash(secret: bytes, user: str) -> str:
    """Return the hashed id of a user, as in the column ``user``.

    Args:
        secret: the secret of the service.
        user: the field ``user`` of a request.
    """
    return hmac.digest(secret, user.encode(), "sha256").hex()[:32]


def _embedding(routed: Routed) -> Any:
    """Return the embedding as a float16 vector, or None."""
    if routed.embedding is None:
        return None
    return routed.embedding.astype("float16", copy=False).ravel()
