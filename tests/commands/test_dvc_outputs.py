"""``add-candidate`` in a DVC repository: commits, locks, and interrupted commits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from catimage.commands import add_candidate, sources
from catimage.commands.candidate_request import CandidateRequest
from catimage.commands.dvc_outputs import DvcOutputs, find_dvc_outputs
from catimage.commands.recovery import recover
from catimage.commands.staged_candidate import COMMITTED_STAGES
from catimage.errors import InputError
from catimage.params import load_params
from catimage.router import Router
from catimage.workspace import Workspace
from tests.commands.test_candidate_data import save_pool, workspace

__all__ = ["workspace"]

ROOT = Path(__file__).parents[2]
DEAD_PID = 2**22 + 1


@pytest.fixture(scope="module", autouse=True)
def code() -> Iterator[None]:
    """Replace the digests of the code, which changes if a file is edited during the test."""
    with pytest.MonkeyPatch.context() as patch:
        inputs = {"code": "1", "packages": {}}
        patch.setattr(sources.StageCode, "inputs", lambda self, stage: dict(inputs))
        yield


@pytest.fixture(scope="module")
def committed(
    workspace: Workspace,
    miniature_pool: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A repository whose ``dvc.lock`` records all stages up to calibrate."""
    root = tmp_path_factory.mktemp("dvc") / "repository"
    shutil.copytree(workspace.root, root)
    copy = Workspace(root)
    save_pool(copy, miniature_pool, (1, 2))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)
    sources.run(copy, load_params(copy.params))
    repo = Repo(str(root))
    for stage in ("sources", "sample", *COMMITTED_STAGES):
        repo.commit(f"{root / 'dvc.yaml'}:{stage}", force=True)
    save_pool(copy, miniature_pool, (1, 2, 4))
    return root


@pytest.fixture
def repository(committed: Path, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(committed, tmp_path / "r"))


def add(repository: Workspace) -> None:
    add_candidate.run(repository, load_params(repository.params), CandidateRequest("mini-4", 20))


def stages_to_run(repository: Workspace) -> list[str]:
    """Return the stages up to calibrate that ``dvc repro`` would run."""
    sources.run(repository, load_params(repository.params))
    target = str(repository.root / "dvc.yaml")
    repo = Repo(str(repository.root))
    return [s for s in ("sample", *COMMITTED_STAGES) if repo.status(targets=[f"{target}:{s}"])]


def test_dvc_runs_only_the_later_stages_after_a_candidate_was_added(
    repository: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stages_to_run(repository) == ["generate", "label", "validate", "train"]  # the pool
    add(repository)
    assert "dvc.lock records the new outputs" in capsys.readouterr().out
    assert stages_to_run(repository) == []
    assert Router.load(repository.router).candidates == ["mini-1", "mini-2", "mini-4"]
    params = load_params(repository.params, ["train.seed=7"])
    sources.run(repository, params)
    assert "train" in stages_to_run(repository)  # stages with changed inputs run again


def test_outputs_that_are_out_of_date_are_not_committed(
    repository: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    load_params(repository.params, ["train.folds=4"])
    before = (repository.root / "dvc.lock").read_bytes()
    add(repository)
    output = capsys.readouterr().out
    assert "dvc.lock was not changed, because the parameters of the stage train changed" in output
    assert (repository.root / "dvc.lock").read_bytes() == before
    assert "mini-4" in Router.load(repository.router).candidates


def test_small_numbers_and_words_of_yaml_1_1_do_not_make_outputs_outdated(
    repository: Workspace,
) -> None:
    """DVC writes YAML 1.2, in which 5e-05 is a number and ``no`` is a string."""
    estimator = "{name: no, kind: ridge, settings: {alpha: 5e-05}}"
    params = load_params(repository.params, [f"train.estimators=[{estimator}]"])
    sources.run(repository, params)
    for stage in ("sources", "sample", *COMMITTED_STAGES):
        Repo(str(repository.root)).commit(f"{repository.root / 'dvc.yaml'}:{stage}", force=True)
    assert "alpha: 5e-05" in (repository.root / "dvc.lock").read_text()
    outputs = find_dvc_outputs(repository, COMMITTED_STAGES)
    assert outputs is not None and outputs.outdated(params) == ""


def conflict(path: Path) -> None:
    """Write markers of a merge conflict to a file."""
    text = path.read_text()
    path.write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> main\n")


@pytest.mark.parametrize("name", ["dvc.lock", "dvc.yaml"])
def test_a_merge_conflict_in_a_file_of_dvc_is_reported(repository: Workspace, name: str) -> None:
    conflict(repository.root / name)
    with pytest.raises(InputError, match=rf"{name}: line 1: a merge conflict of git. Resolve it"):
        add(repository)


def test_a_file_of_dvc_that_is_damaged_while_a_command_runs_is_reported(
    repository: Workspace,
) -> None:
    outputs = find_dvc_outputs(repository, COMMITTED_STAGES)
    assert outputs is not None
    conflict(repository.root / "dvc.lock")
    before = (repository.root / "dvc.lock").read_bytes()
    for function in (outputs.commit, lambda: outputs.locked().__enter__()):
        with pytest.raises(InputError, match=r"dvc\.lock: DVC cannot .* 'dvc status'"):
            function()
    assert (repository.root / "dvc.lock").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("data/scores.parquet", "scores.parquet changed since 'dvc repro' ran label"),
        ("dvc.yaml", "the command of the stage train changed"),
        ("dvc.lock", "'dvc repro' has not run the stage generate"),
    ],
)
def test_outputs_that_a_user_changed_are_out_of_date(
    repository: Workspace, change: str, reason: str
) -> None:
    path = repository.root / change
    if change == "dvc.lock":
        path.unlink()
    elif change == "dvc.yaml":
        path.write_text(path.read_text().replace("catimage train", "catimage train --set a=1"))
    else:
        path.write_bytes(path.read_bytes() + b" ")
    outputs = find_dvc_outputs(repository, COMMITTED_STAGES)
    assert outputs is not None
    assert reason in outputs.outdated(load_params(repository.params))


def test_locks_of_running_dvc_processes_are_respected_and_others_are_ignored(
    repository: Workspace,
) -> None:
    locks = repository.root / ".dvc" / "tmp" / "rwlock"
    outputs = find_dvc_outputs(repository, COMMITTED_STAGES)
    assert outputs is not None
    entry = {"pid": 1, "cmd": "dvc repro train"}
    locks.write_text(json.dumps({"write": {str(repository.estimators): entry}}))
    with pytest.raises(InputError, match="another DVC process is using its outputs"):
        add(repository)
    entry["pid"] = DEAD_PID
    locks.write_text(json.dumps({"write": {str(repository.estimators): entry}}))
    with outputs.locked():
        assert str(os.getpid()) in locks.read_text()
    assert str(os.getpid()) not in locks.read_text()


def test_a_failed_dvc_commit_restores_the_outputs(
    repository: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = (repository.root / "dvc.lock").read_bytes()
    commit, calls = Repo.commit, []

    def full_disk(self: Repo, target: str, **options: object) -> object:
        calls.append(target)
        if target.endswith("train"):
            raise OSError(28, "No space left on device")
        return commit(self, target, **options)

    monkeypatch.setattr(Repo, "commit", full_disk)
    with pytest.raises(OSError, match="No space left"):
        add(repository)
    assert len(calls) == 5
    assert (repository.root / "dvc.lock").read_bytes() == lock
    assert Router.load(repository.router).candidates == ["mini-1", "mini-2"]


def test_a_dvc_commit_that_was_killed_is_completed(
    repository: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    pid = os.fork()
    if pid == 0:
        DvcOutputs.commit = lambda self: os.kill(os.getpid(), signal.SIGKILL)
        add(repository)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert "train" in stages_to_run(repository)
    lock = (repository.root / "dvc.lock").read_text()
    conflict(repository.root / "dvc.lock")
    with pytest.raises(InputError, match=r"dvc\.lock: line 1: a merge conflict"):
        recover(repository)
    (repository.root / "dvc.lock").write_text(lock)
    recover(repository)
    assert "was completed" in capfd.readouterr().err
    assert stages_to_run(repository) == []
    recorded = yaml.safe_load((repository.root / "dvc.lock").read_text())["stages"]
    parameters = recorded["train"]["params"]["data/sources.json"]["train.parameters"]
    assert parameters["validate"]["complete_labels"] is False


def test_a_workspace_without_dvc_has_no_dvc_outputs(tmp_path: Path) -> None:
    assert find_dvc_outputs(Workspace(tmp_path), COMMITTED_STAGES) is None
    (tmp_path / "dvc.yaml").write_text("stages: {mine: {cmd: ls}}")
    assert find_dvc_outputs(Workspace(tmp_path), COMMITTED_STAGES) is None
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    assert find_dvc_outputs(Workspace(tmp_path), COMMITTED_STAGES) is None
