"""Replacement of several files: all or none, whatever happens."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from catimage.common import replacement, transaction
from catimage.common.replacement import remove_leftovers
from catimage.common.transaction import (
    JOURNAL,
    complete,
    is_pending,
    replacing_together,
    written_together,
)
from catimage.errors import InputError
from tests.common.kill_points import killed_before

TARGETS = {"data/table": "file", "models/folder": "folder", "params.yaml": "file"}
FOLDERS = (".", ".catimage", "data", "models", "reports")


def content(root: Path) -> dict[str, str]:
    """Return the text of every file that is no lock; the journal is included."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and "staged" not in path.parts
    }


def prepare(root: Path) -> dict[Path, Path | None]:
    """Write old versions, and new versions in the folder ``staged``.

    One file is new, and one is to be removed.
    """
    for version in ("", "staged/"):
        for name, kind in TARGETS.items():
            path = root / f"{version}{name}" / ("a/b" if kind == "folder" else "")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(version)
    (root / "staged" / "created").write_text("created")
    (root / "reports").mkdir()
    (root / "reports" / "outdated").write_text("outdated")
    sources: dict[Path, Path | None] = {root / name: root / "staged" / name for name in TARGETS}
    created = {root / "data" / "created": root / "staged" / "created"}
    return sources | created | {root / "reports" / "outdated": None}


OLD = {"data/table": "", "models/folder/a/b": "", "params.yaml": "", "reports/outdated": "outdated"}
NEW = {
    "data/created": "created",
    "data/table": "staged/",
    "models/folder/a/b": "staged/",
    "params.yaml": "staged/",
}


def replace_all(root: Path, sources: dict[Path, Path | None]) -> None:
    with replacing_together(root, sources, ["train"]):
        pass


def replace_some_and_be_killed(root: Path, sources: dict[Path, Path | None]) -> None:
    """Replace files in a forked process that is killed after two of them."""
    pid = os.fork()
    if pid == 0:
        calls: list[Path] = []

        def swap(first: Path, second: Path) -> None:
            calls.append(second)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            replacement.swap(first, second)

        transaction.swap = swap  # type: ignore[attr-defined]
        replace_all(root, sources)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_all_files_are_replaced_and_no_journal_remains(tmp_path: Path) -> None:
    with replacing_together(tmp_path, prepare(tmp_path)):
        assert is_pending(tmp_path)
        assert content(tmp_path).items() >= NEW.items()
    assert content(tmp_path) == NEW and not is_pending(tmp_path)


@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_at_any_point_leaves_all_old_or_all_new_files(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(replacement, "_exchange", lambda first, second: False)
    results, change, killed = [], 0, True
    while killed:
        change += 1
        root = tmp_path / str(change)
        sources = prepare(root)
        killed = killed_before(change, lambda r=root, s=sources: replace_all(r, s))
        committed: list[str] = []
        completed = complete(root, committed.extend)
        for folder in FOLDERS:
            remove_leftovers(root / folder)
        assert committed == (["train"] if completed else [])
        results.append(content(root))
    assert all(result in (OLD, NEW) for result in results)
    assert results[0] == OLD and results[-1] == NEW
    assert results == sorted(results, key=lambda result: result == NEW)


def test_an_error_at_any_replacement_restores_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for failing in range(1, 6):
        root, calls = tmp_path / str(failing), 0
        sources = prepare(root)

        def failing_swap(first: Path, second: Path, failing: int = failing) -> None:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError("the disk is full")
            replacement.swap(first, second)

        monkeypatch.setattr(transaction, "swap", failing_swap)
        with pytest.raises(OSError, match="full"), replacing_together(root, sources):
            pytest.fail("the block must not run")
        assert content(root) == OLD


@pytest.mark.parametrize("exchanged", [True, False])
def test_an_interruption_just_before_or_after_an_exchange_restores_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanged: bool
) -> None:
    for interrupted in range(1, 6):
        root, calls = tmp_path / str(interrupted), 0
        sources = prepare(root)

        def interrupted_swap(first: Path, second: Path, interrupted: int = interrupted) -> None:
            nonlocal calls
            calls += 1
            if calls != interrupted or exchanged:
                replacement.swap(first, second)
            if calls == interrupted:
                raise KeyboardInterrupt

        monkeypatch.setattr(transaction, "swap", interrupted_swap)
        with pytest.raises(KeyboardInterrupt), replacing_together(root, sources):
            pytest.fail("the block must not run")
        assert content(root) == OLD


def test_a_command_that_was_killed_during_another_one_is_completed_before_the_next(
    tmp_path: Path,
) -> None:
    """The command that is still running must not remove the journal of the killed one."""
    sources = prepare(tmp_path)
    target = tmp_path / "data" / "table"
    with (
        pytest.raises(InputError, match=r"transaction\.json: .* interrupted .* Run the command"),
        written_together(tmp_path, [target]) as new,
    ):
        new[target].write_text("of the running command")
        replace_some_and_be_killed(tmp_path, sources)
        assert is_pending(tmp_path)
        before = content(tmp_path)
    after = content(tmp_path)
    assert after == before
    assert complete(tmp_path, lambda stages: None)
    for folder in FOLDERS:
        remove_leftovers(tmp_path / folder)
    assert content(tmp_path) == NEW


def test_an_error_in_the_block_restores_the_old_files(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing_together(tmp_path, prepare(tmp_path)):
        raise KeyboardInterrupt
    assert content(tmp_path) == OLD


def test_a_failed_journal_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(transaction, "_write_journal", full)
    with pytest.raises(OSError, match="full"), replacing_together(tmp_path, prepare(tmp_path)):
        pytest.fail("the block must not run")
    assert content(tmp_path) == OLD


def test_a_journal_whose_new_versions_are_lost_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".catimage").mkdir()
    (tmp_path / "table").write_text("old")
    row = {"target": "table", "staged": ".table.new", "digest": "0"}
    (tmp_path / JOURNAL).write_text(json.dumps({"replace": [row], "dvc_stages": []}))
    with pytest.raises(InputError, match=r"table: a command was interrupted, and .* is missing"):
        complete(tmp_path, lambda stages: None)
    assert is_pending(tmp_path) and (tmp_path / "table").read_text() == "old"


def test_completion_waits_for_a_process_that_is_still_replacing(tmp_path: Path) -> None:
    replaced, finished = threading.Event(), []

    def other() -> None:
        replaced.wait(10)
        finished.append(complete(tmp_path, lambda stages: None))

    thread = threading.Thread(target=other)
    thread.start()
    with replacing_together(tmp_path, prepare(tmp_path)):
        replaced.set()
        thread.join(0.3)
        assert thread.is_alive() and not finished
    thread.join(10)
    assert finished == [False] and content(tmp_path) == NEW


def test_files_that_a_block_writes_replace_their_targets_together(tmp_path: Path) -> None:
    prepare(tmp_path)
    targets = [tmp_path / "data" / "table", tmp_path / "made" / "folder"]
    with written_together(tmp_path, targets, [tmp_path / "params.yaml"]) as new:
        new[targets[0]].write_text("written")
        new[targets[1]].mkdir()
        (new[targets[1]] / "file").write_text("written")
        assert targets[0].read_text() == "" and (tmp_path / "params.yaml").exists()
    assert targets[0].read_text() == (targets[1] / "file").read_text() == "written"
    assert not (tmp_path / "params.yaml").exists()
    assert not list(tmp_path.rglob("*.new"))


def test_an_error_in_a_block_that_writes_changes_nothing(tmp_path: Path) -> None:
    prepare(tmp_path)
    target = tmp_path / "data" / "table"
    with (
        pytest.raises(OSError, match="full") as caught,
        written_together(tmp_path, [target]) as new,
    ):
        new[target].write_text("a part")
        raise OSError(28, "full", str(new[target]))
    assert caught.value.filename == str(target)
    assert content(tmp_path) == OLD
