"""The small size of ``make demo-operations``, and its end by Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from experiments.operations.servers import marked_processes

from tests.system.programs import wait_until

ROOT = Path(__file__).parents[2]
STEPS = [
    ("gate", "router version 1 is the champion"),
    ("service", "serves router version 1"),
    ("monitor", "no alarm after"),
    ("traffic", "now patterned scenes"),
    ("monitor", "alarm of the monitor: "),
    ("retrain", "the monitor has started the run"),
    ("gate", "better than the champion"),
    ("mlflow", "the champion is router version 2, before: 1"),
    ("service", "serves router version 2"),
    ("rollback", "the service and MLflow have version 1 again, instead of 2"),
    ("service", "none failed"),
]
"""The part and the text of the lines that the timeline has, in this order."""


def start(folder: Path) -> subprocess.Popen[str]:
    command = ["-m", "experiments.operations", "--folder", str(folder), "--size", "small"]
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.timeout(1200)
def test_drift_leads_to_a_new_champion_and_a_rollback_to_the_old_one(tmp_path: Path) -> None:
    process = start(tmp_path / "workspace")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    lines = iter(output.splitlines())
    for part, text in STEPS:
        found = (line for line in lines if re.match(rf" *\d+:\d\d +{part} ", line) and text in line)
        assert next(found, None), f"{part}: {text}\n{output}"
    assert not marked_processes(tmp_path / "workspace")


def test_an_interrupted_demonstration_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    process = start(folder)
    wait_until(lambda: len(marked_processes(folder)) >= 2, "two servers", 60)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "interrupted; all servers have been stopped" in output and "Traceback" not in output
    assert not marked_processes(folder)


def test_another_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    process = start(tmp_path)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "not a workspace of this demonstration" in output
    assert (tmp_path / "mine.txt").exists()
