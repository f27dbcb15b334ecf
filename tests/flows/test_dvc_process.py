"""``dvc repro`` in a process group: exit statuses, time limits, and locks of DVC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from flows.dvc_process import Outcome, is_dvc_busy, reproduce

from catimage.common.replacement import is_running

DEAD_PID = 2**22 + 1


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that creates a DVC repository with one stage."""

    def create(command: str) -> Path:
        stage = {"cmd": command, "always_changed": True}
        (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"label": stage}}))
        init = [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"]
        subprocess.run(init, cwd=tmp_path, check=True)
        return tmp_path

    return create


@pytest.mark.parametrize(
    ("command", "stage_status", "is_transient"),
    [
        ("echo done", None, False),
        ("exit 1", 1, True),
        ("exit 2", 2, False),
        ("kill -9 $$", -9, True),
        ("no-such-command", 127, False),
    ],
)
def test_the_status_of_the_stage_decides_whether_it_is_retried(
    project: Callable[[str], Path], command: str, stage_status: int | None, is_transient: bool
) -> None:
    lines: list[str] = []
    outcome = reproduce("label", project(command), 60, lines.append)
    assert (outcome.stage_status, outcome.is_transient) == (stage_status, is_transient)
    assert not outcome.timed_out and (outcome.status == 0) == (stage_status is None)
    assert stage_status is not None or "done" in lines


@pytest.mark.parametrize(
    ("outcome", "is_transient"),
    [
        (Outcome(-9, None, False), True),  # DVC itself was killed
        (Outcome(255, None, False), False),  # an error of DVC
        (Outcome(255, 137, False), True),  # the shell reports a kill
        (Outcome(-15, None, True), False),
    ],
)
def test_kills_are_transient_and_errors_of_dvc_are_not(
    outcome: Outcome, is_transient: bool
) -> None:
    assert outcome.is_transient is is_transient


def test_a_stage_that_takes_too_long_is_ended_with_its_processes(
    project: Callable[[str], Path],
) -> None:
    folder = project("sleep 100 & echo $! > child; wait")
    start = time.monotonic()
    outcome = reproduce("label", folder, 6, print)
    assert outcome.timed_out and outcome.status != 0
    assert time.monotonic() - start < 30
    child = int((folder / "child").read_text())
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child) or _is_zombie(child)


def _is_zombie(pid: int) -> bool:
    """Return whether a process has ended, but its parent has not asked for its status."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_processes_end_if_the_caller_is_interrupted(project: Callable[[str], Path]) -> None:
    folder = project("echo started; sleep 100")

    def interrupt(line: str) -> None:
        if line == "started":
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        reproduce("label", folder, 90, interrupt)
    assert time.monotonic() - start < 30


def test_entries_of_killed_processes_do_not_make_dvc_busy(
    project: Callable[[str], Path], tmp_path: Path
) -> None:
    assert not is_dvc_busy(tmp_path)  # no repository
    locks = project("true") / ".dvc" / "tmp" / "rwlock"
    locks.parent.mkdir(exist_ok=True)
    for mode in ("read", "write"):
        for pid, busy in ((DEAD_PID, False), (os.getpid(), True)):
            entry = {"pid": pid, "cmd": "dvc repro"}
            locks.write_text(json.dumps({mode: {"data": [entry] if mode == "read" else entry}}))
            assert is_dvc_busy(tmp_path) is busy
    locks.write_text("")
    assert not is_dvc_busy(tmp_path)
