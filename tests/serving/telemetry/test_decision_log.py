"""The thread that writes the decision log."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from catimage.data.decisions import read_decisions
from catimage.data.prompts.identity import prompt_id
from catimage.serving.telemetry.decision_log import DecisionLog, LoggedDecision
from catimage.serving.telemetry.metrics import Metrics
from tests.serving.telemetry.requests import KEY, PROMPT, image_request, result, routed


def logged(number: int = 0, **changes: object) -> LoggedDecision:
    fields = {"request": image_request(number), "routed": routed(), "result": result()}
    fields |= {"status": 200, "seconds": 0.8, "unit": "tflops", "time": datetime.now(UTC)}
    return LoggedDecision(**fields | changes)


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_row_has_the_decision_its_propensities_and_its_outcome(tmp_path: Path) -> None:
    metrics = Metrics()
    log = DecisionLog(tmp_path / "log", "r1", b"secret", metrics)
    log.append(logged())
    log.append(logged(1, result=None, status=499, routed=routed(embedding=None, lam=None)))
    log.close()
    first, second = read_decisions(tmp_path / "log").to_dict("records")
    assert first["request_id"] == "request-0" and first["key_id"] == KEY.key_id
    assert first["prompt_id"] == prompt_id(PROMPT) and pd.isna(first["prompt"])
    assert (first["candidate"], first["served"], first["shadow"]) == ("small", "large", "large")
    assert first["propensities"] == {"small": 0.9, "large": 0.1}
    assert first["predicted_quality"] == 0.3 and first["lambda"] == 0.02
    assert (first["cost"], first["saved"], first["unit"]) == (8.0, -2.0, "tflops")
    assert np.array_equal(first["embedding"], routed().embedding)
    assert first["embedding"].dtype == np.float16
    assert np.isnan(first["score"])
    assert (second["status"], second["images"], second["cost"]) == (499, 0, 0.0)
    assert pd.isna(second["served"]) and np.isnan(second["lambda"])
    assert value(metrics, "catimage_decisions_logged_total") == 2


def test_users_are_hashed_with_the_secret_and_prompts_logged_only_if_switched_on(
    tmp_path: Path,
) -> None:
    users = []
    for secret in (b"one", b"one", b"two"):
        folder = tmp_path / str(len(users))
        log = DecisionLog(folder, "r1", secret, Metrics(), log_prompts=secret == b"two")
        log.append(logged())
        log.append(logged(request=image_request(user=None)))
        log.close()
        frame = read_decisions(folder)
        users.append(frame["user"][0])
        assert frame["user"].isna().tolist() == [False, True]
        assert frame["prompt"].dropna().tolist() == ([PROMPT, PROMPT] if secret == b"two" else [])
        content = b"".join(path.read_bytes() for path in folder.iterdir())
        assert b"jane@example.org" not in content
        assert (PROMPT.encode() in content) == (secret == b"two")
    assert users[0] == users[1] != users[2] and len(users[0]) == 32


def test_rows_are_written_while_the_service_runs(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, "r1", b"s", Metrics(), flush_seconds=0.05, flush_rows=3)
    log.append(logged())
    deadline = time.monotonic() + 10
    while not len(read_decisions(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for i in range(1, 8):
        log.append(logged(i))
    log.close()
    frame = read_decisions(tmp_path)
    assert frame["request_id"].tolist() == [f"request-{i}" for i in range(8)]
    assert len(list(tmp_path.glob("*.parquet"))) == 1  # merged at the end


def test_the_buffer_is_bounded_and_dropped_rows_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, metrics = threading.Event(), Metrics()
    write = DecisionLog._write
    monkeypatch.setattr(
        DecisionLog, "_write", lambda self, rows: (release.wait(10), write(self, rows))[1]
    )
    log = DecisionLog(tmp_path, "r1", b"s", metrics, flush_rows=1, capacity=4)
    log.append(logged())
    while not log._queue.empty():
        time.sleep(0.01)
    start = time.monotonic()
    for i in range(1, 10):
        log.append(logged(i))
    assert time.monotonic() - start < 0.5
    release.set()
    log.close()
    assert len(read_decisions(tmp_path)) == 5
    assert value(metrics, "catimage_decisions_dropped_total", reason="full") == 5


def test_a_folder_that_cannot_be_written_loses_rows_but_not_the_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").write_text("a file, not a folder")
    metrics = Metrics()
    log = DecisionLog(tmp_path / "log", "r1", b"s", metrics, flush_rows=1)
    for i in range(3):
        log.append(logged(i))
    log.close()
    assert value(metrics, "catimage_decisions_dropped_total", reason="failed") == 3
    messages = [r.getMessage() for r in caplog.records if "CATIMAGE_LOG_FOLDER" in r.getMessage()]
    assert len(messages) == 1
    (tmp_path / "log").unlink()


KILLED = """
import sys
from pathlib import Path
from tests.serving.telemetry.test_decision_log import logged
from catimage.serving.telemetry.decision_log import DecisionLog
from catimage.serving.telemetry.metrics import Metrics
log = DecisionLog(Path(sys.argv[1]), "r1", b"s", Metrics(), flush_rows=20, flush_seconds=0.01)
print("ready", flush=True)
i = 0
while True:
    log.append(logged(i))
    i += 1
"""


def test_no_incomplete_file_is_read_after_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 20
        while len(list(tmp_path.glob("decisions-*"))) < 5:
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.01)
        child.kill()
    ids = read_decisions(tmp_path)["request_id"].tolist()
    assert len(ids) >= 5
    assert ids == [f"request-{i}" for i in range(len(ids))]
