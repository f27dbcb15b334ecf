"""The end of the decision log: no row is lost without being counted."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from catimage.serving.telemetry.decision_log import DecisionLog
from catimage.serving.telemetry.metrics import Metrics
from tests.serving.telemetry.test_decision_log import logged, value

DROPPED = "catimage_decisions_dropped_total"


def test_rows_after_the_end_and_rows_that_a_slow_disk_cannot_take_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slow, writing = threading.Event(), threading.Event()

    def write(*_: object) -> None:
        writing.set()
        slow.wait(10)

    monkeypatch.setattr(DecisionLog, "_write", write)
    metrics = Metrics()
    log = DecisionLog(tmp_path, "r", b"s", metrics, flush_rows=1, capacity=2)
    for number in range(4):
        log.append(logged(number))
        assert number or writing.wait(5)
    assert value(metrics, DROPPED, reason="full") == 1
    log.close(timeout=0.05)
    assert value(metrics, DROPPED, reason="closed") == 2
    assert "2 rows were not written in time" in caplog.text
    slow.set()
    log.close(timeout=5)
    log.append(logged(5))
    assert value(metrics, DROPPED, reason="closed") == 3
