"""``add-candidate`` leaves the old outputs or writes the new ones, whatever interrupts it."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands import add_candidate, recovery, staged_candidate
from catimage.commands.candidate_request import CandidateRequest
from catimage.common import transaction
from catimage.common.hashing import file_digest
from catimage.common.transaction import is_pending
from catimage.data.schema import PROMPTS, read_table
from catimage.data.shards.lock import write_lock
from catimage.errors import InputError
from catimage.params import load_params
from catimage.router import Router
from catimage.stages import calibrate, evaluate
from catimage.workspace import Workspace
from tests import forked
from tests.commands.test_add_candidate import calibrated_workspace, rows_of, write

__all__ = ["calibrated_workspace"]

OUTPUTS = ("data", "models", "reports", "params.yaml")
STEPS: dict[str, tuple[object, str]] = {
    "tables": (staged_candidate, "_write_tables"),
    "validation": (staged_candidate.validate, "run"),
    "estimators": (staged_candidate, "extend_estimators"),
    "calibration": (staged_candidate.calibrate, "run"),
    "staging": (transaction, "_stage"),
    "journal": (transaction, "_write_journal"),
    "replacement": (transaction, "swap"),
    "flush": (transaction, "_sync_folders"),
}
"""The steps of the command: module and name of a function that each step calls."""
REPLACEMENT = ("replacement", "flush")
"""The steps after which the new outputs are complete."""


@pytest.fixture
def workspace(calibrated_workspace: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(calibrated_workspace.root, tmp_path / "w"))


@pytest.fixture
def request_(workspace: Workspace, tmp_path: Path) -> CandidateRequest:
    """Scores of a new candidate."""
    table = read_table(workspace.prompts, PROMPTS, "sample").query("split == 'train'")
    prompts = table["prompt"].tolist()[:40]
    scores = write(tmp_path / "new.csv", rows_of(prompts, ["new"], ("quality", "error"), seed=1))
    costs = write(tmp_path / "cost.csv", [["new", 3, "seconds"]], ("candidate", "cost", "unit"))
    return CandidateRequest("new", 40, scores, costs)


def add(workspace: Workspace, request: CandidateRequest) -> None:
    add_candidate.run(workspace, load_params(workspace.params), request)


def content(workspace: Workspace) -> dict[str, str]:
    """Return the digest of every output; lock files are omitted."""
    roots = [workspace.root / name for name in OUTPUTS]
    paths = (path for root in roots for path in [root, *root.rglob("*")])
    return {
        str(path.relative_to(workspace.root)): file_digest(path)
        for path in paths
        if path.is_file() and path.suffix != ".lock"
    }


def failing_at(call: int, function: Callable[..., object], fail: Callable[[], None]) -> object:
    """Return a function that calls ``function``, and ``fail`` in the given call, from 1."""
    calls = 0

    def failing(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            fail()
        return function(*arguments, **options)

    return failing


def raise_full() -> None:
    raise OSError(28, "No space left on device")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_error_in_any_step_leaves_everything_unchanged(
    workspace: Workspace, request_: CandidateRequest
) -> None:
    """The command fails in each step in turn, and then succeeds."""
    before = content(workspace)
    for step, (module, name) in STEPS.items():
        call = 3 if step == "replacement" else 1
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(module, name, failing_at(call, getattr(module, name), raise_full))
            with pytest.raises(OSError, match="No space left"):
                add(workspace, request_)
        assert content(workspace) == before, step
        assert not is_pending(workspace.root), step
        assert not (workspace.root / ".catimage" / "add-candidate").exists(), step
    add(workspace, request_)
    assert Router.load(workspace.router).candidates == ["cheap", "new", "expensive"]


def killed_in(step: str, workspace: Workspace, request: CandidateRequest) -> str:
    """Kill the command in a step; return what the next command prints on standard error."""

    def killed() -> None:
        module, name = STEPS[step]
        call = 3 if step == "replacement" else 1
        setattr(module, name, failing_at(call, getattr(module, name), kill))
        add(workspace, request)

    assert forked.exit_status(forked.start(killed)) == -signal.SIGKILL
    result = CliRunner().invoke(
        app, ["route", "plain scene number 1", "--workspace", str(workspace.root)]
    )
    assert result.exit_code == 0, result.output
    return result.stderr


def check_new_outputs(workspace: Workspace) -> None:
    """Check that the candidate has been added, and that the outputs belong together."""
    assert Router.load(workspace.router).candidates == ["cheap", "new", "expensive"]
    params = load_params(workspace.params)
    assert params.validation.complete_labels is False
    calibrate.run(workspace, params)


def test_a_kill_before_the_replacement_leaves_all_old_outputs(
    workspace: Workspace, request_: CandidateRequest
) -> None:
    """The command is killed in each step in turn, and then succeeds."""
    before = content(workspace)
    for step in STEPS:
        if step not in REPLACEMENT:
            assert "was completed" not in killed_in(step, workspace, request_), step
            assert content(workspace) == before, step
    add(workspace, request_)
    check_new_outputs(workspace)


@pytest.mark.parametrize("step", REPLACEMENT)
def test_a_replacement_that_was_killed_is_completed(
    workspace: Workspace, request_: CandidateRequest, step: str
) -> None:
    assert "was completed" in killed_in(step, workspace, request_)
    check_new_outputs(workspace)


def test_the_other_stages_accept_the_outputs(
    workspace: Workspace, request_: CandidateRequest
) -> None:
    add(workspace, request_)
    params = load_params(workspace.params)
    calibrate.run(workspace, params)
    with pytest.raises(InputError, match="no prompt of the validation split has a quality score"):
        evaluate.run(workspace, params)  # without --score-all-splits


def test_locks_are_held_from_the_beginning_to_the_end(
    workspace: Workspace, request_: CandidateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, proceed = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    run_calibration = calibrate.run

    def slow(*arguments: object) -> None:
        reached.set()
        proceed.wait(60)
        run_calibration(*arguments)

    monkeypatch.setattr(staged_candidate.calibrate, "run", slow)
    thread = threading.Thread(target=add, args=(workspace, request_))
    thread.start()
    assert reached.wait(60)
    for output in (workspace.images, workspace.scores):
        with pytest.raises(InputError, match="another process is writing it"), write_lock(output):
            pass
    try:
        add(workspace, request_)
    except InputError as error:
        errors.append(error)
    proceed.set()
    thread.join(60)
    assert "another process is writing it" in str(errors[0])
    assert Router.load(workspace.router).candidates == ["cheap", "new", "expensive"]


def test_invalid_data_are_not_added(
    workspace: Workspace, request_: CandidateRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(staged: Workspace, params: object) -> None:
        raise InputError(f"{staged.scores}: the scores are invalid. Correct them.")

    monkeypatch.setattr(staged_candidate.validate, "run", refuse)
    before = content(workspace)
    with pytest.raises(InputError) as caught:
        add(workspace, request_)
    assert str(caught.value).startswith(f"{workspace.scores}: the scores are invalid")
    assert content(workspace) == before


def test_dvc_does_not_complete_an_interrupted_command(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = workspace.root / transaction.JOURNAL
    journal.parent.mkdir(exist_ok=True)
    journal.write_text('{"replace": [], "dvc_stages": ["train"]}')
    monkeypatch.setenv("DVC_STAGE", "sources")
    with pytest.raises(InputError, match=r"Run 'catimage sources' to complete it"):
        recovery.recover(workspace)
    monkeypatch.delenv("DVC_STAGE")
    recovery.recover(workspace)
    assert not journal.exists()
