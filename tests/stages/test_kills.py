"""Kills of generate, label and train at changes of files: nothing is lost, duplicated or mixed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from benchmarks.kill_checks import check_images, digests

from catimage.params import Params
from catimage.stages import generate, label, train
from catimage.workspace import Workspace
from tests.common.kill_points import killed_before
from tests.miniature import workspace_of
from tests.noise_generator import generate_noise
from tests.trained_workspace import train_workspace

PROMPTS = ["a red ring", "a blue square", "a green disc", "a white cross", "a grey star"]
EVERY = 7
"""The stage is killed before every seventh change of a file."""


def kill_and_finish(
    stage: ModuleType,
    workspace: Workspace,
    params: Params,
    intact: Callable[[dict[str, str]], bool],
) -> int:
    """Run a stage again and again, killed before a later change each time, until it ends.

    Args:
        stage: the module of the stage.
        workspace: the workspace.
        params: its parameters.
        intact: returns whether the outputs with these digests may exist after a kill.

    Returns:
        The number of kills.
    """
    kills = 0
    while killed_before(1 + kills * EVERY, lambda: stage.run(workspace, params)):
        kills += 1
        assert intact(digests(workspace.root))
    return kills


@pytest.mark.parametrize("stage", [generate, label])
def test_a_killed_stage_continues_without_loss_and_duplicates(
    stage: ModuleType, miniature_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_noise(monkeypatch)
    sections = {"label": {"metrics": ["sharpness"]}}
    finished, params = workspace_of(tmp_path / "finished", miniature_pool, PROMPTS, **sections)
    workspace, _ = workspace_of(tmp_path / "killed", miniature_pool, PROMPTS, **sections)
    for w in (finished, workspace):
        if stage is label:
            generate.run(w, params)
    old = digests(workspace.root)
    stage.run(finished, params)
    new = digests(finished.root)
    kills = kill_and_finish(
        stage,
        workspace,
        params,
        lambda current: all(current[name] in (old[name], new[name]) for name in new),
    )
    assert kills >= 3
    assert digests(workspace.root) == new
    check_images(workspace.images)
    assert not list(workspace.root.rglob(".*.new"))


def test_estimators_are_the_old_or_the_new_ones_after_a_kill(tmp_path: Path) -> None:
    workspace, params = train_workspace(tmp_path, train={"estimators": ["ridge"], "folds": 2})
    old = digests(tmp_path)["models/estimators"]
    settings = params.model_copy(update={"train": params.train.model_copy(update={"folds": 3})})
    finished, _ = train_workspace(tmp_path / "finished", train={"estimators": ["ridge"]})
    train.run(finished, settings)
    new = digests(finished.root)["models/estimators"]
    assert old != new
    kills = kill_and_finish(
        train, workspace, settings, lambda current: current["models/estimators"] in (old, new)
    )
    assert kills >= 2
    assert digests(tmp_path)["models/estimators"] == new
    assert not list((tmp_path / "models").rglob(".*.new"))
