"""A bad commit of parameters is refused before the first stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from catimage.commands import dry_run, sources
from catimage.errors import InputError
from catimage.params import load_params
from catimage.workspace import Workspace
from flows import preflight, retrain

PARAMS = {"sample": {"sources": [{"kind": "scenes", "count": 50}]}}
WITH_MODELS = pytest.mark.system
"""The dry run loads the metrics, which takes seconds."""
BAD = [
    pytest.param({"budget": "-3"}, "budget"),
    pytest.param({"bugdet": "40%"}, "bugdet"),
    pytest.param({"pool": "no-such-pool"}, "no-such-pool", marks=WITH_MODELS),
    pytest.param({"label": {"metrics": ["clip_scor"]}}, "clip_scor", marks=WITH_MODELS),
    pytest.param({"sample": {"sources": [{"path": "none.csv"}]}}, "none.csv", marks=WITH_MODELS),
    pytest.param({"metric": "sharpnes"}, "sharpnes", marks=WITH_MODELS),
]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "dvc.yaml").write_text("stages: {sample: {cmd: touch ran}}")
    return Workspace(tmp_path)


@pytest.mark.parametrize(("change", "name"), BAD)
def test_bad_parameters_are_refused_before_the_first_stage(
    workspace: Workspace, change: dict[str, object], name: str
) -> None:
    workspace.params.write_text(yaml.safe_dump({**PARAMS, **change}))
    state = retrain.retrain.fn(workspace.root)
    assert state.is_failed() and state.message.startswith("retrain: ") and name in state.message
    assert not (workspace.root / "ran").exists()


def test_parameters_of_the_last_run_are_not_checked_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.params.write_text(yaml.safe_dump(PARAMS))
    calls: list[object] = []
    monkeypatch.setattr(dry_run, "dry_run", lambda *arguments: calls.append(arguments) or [])
    preflight.check_parameters(workspace)
    (workspace.root / "data").mkdir()
    sources.run(workspace, load_params(workspace.params))
    preflight.check_parameters(workspace)
    assert len(calls) == 1
    workspace.params.write_text(yaml.safe_dump({**PARAMS, "budget": "30%"}))
    preflight.check_parameters(workspace)
    assert len(calls) == 2


def test_the_first_problem_of_the_dry_run_is_reported(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.params.write_text(yaml.safe_dump(PARAMS))
    findings = [
        dry_run.Finding("pool", "note", "something"),
        dry_run.Finding("label", "problem", "no weights. Download them."),
        dry_run.Finding("train", "problem", "no features."),
    ]
    monkeypatch.setattr(dry_run, "dry_run", lambda *arguments: findings)
    with pytest.raises(InputError, match=r"params\.yaml, label: no weights\. .* 2 problems"):
        preflight.check_parameters(workspace)
