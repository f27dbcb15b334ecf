"""Which stages a flow starts: DVC compares the files of a pipeline with those of the last run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from flows.stage_check import check_stages, stages_to_start

from catimage.workspace import STAGES


def test_the_first_outdated_stage_and_those_after_it_are_started() -> None:
    assert stages_to_start({"sources"}) == ()
    assert stages_to_start({"sources", "package"}) == ("package",)
    assert stages_to_start({"sources", "evaluate", "label"}) == STAGES[2:]


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A DVC repository; each stage copies the output of the one before it, after ``own``."""
    source = {"cmd": "cat input > sources", "always_changed": True, "outs": ["sources"]}
    own = {"cmd": "cat extra > own", "deps": ["extra"], "outs": ["own"]}
    stages = {"sources": source, "own": own}
    for before, stage in zip(("sources", *STAGES), STAGES, strict=False):
        deps = [before, "own"] if stage == "train" else [before]
        stages[stage] = {"cmd": f"cat {before} > {stage}", "deps": deps, "outs": [stage]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for name in ("input", "extra"):
        (tmp_path / name).write_text("1")
    dvc(tmp_path, "init", "-q", "--no-scm")
    dvc(tmp_path, "repro", "-q")
    return tmp_path


def dvc(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True)


def test_dvc_reports_what_has_changed_since_the_last_run(pipeline: Path) -> None:
    assert check_stages.fn(pipeline) == ()
    (pipeline / "label").write_text("damaged")
    assert check_stages.fn(pipeline) == STAGES[2:]
    dvc(pipeline, "repro", "-q")
    (pipeline / "input").write_text("2")  # the check runs the stage sources first
    assert check_stages.fn(pipeline) == STAGES
    dvc(pipeline, "repro", "-q")
    (pipeline / "extra").write_text("2")
    assert check_stages.fn(pipeline) == STAGES, "a stage of the user is out of date"


def test_a_failure_of_sources_is_reported(pipeline: Path) -> None:
    (pipeline / "input").unlink()
    state = check_stages.fn(pipeline)
    assert state.is_failed() and state.message.startswith("sources: exited with status 1.")
