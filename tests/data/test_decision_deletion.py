"""Deletion of users from the decision log, compared with the rows that remain."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from catimage.data import decision_deletion
from catimage.data.decision_deletion import delete_users
from catimage.data.decisions import log_lock, merge_decisions, read_decisions, write_decisions
from catimage.errors import InputError
from tests.decision_rows import NOON, decision_row

ALICE, BOB = "a" * 32, "b" * 32
LATER = NOON + timedelta(days=1)


def save(folder: Path, replica: str, number: int, *users: str | None) -> Path:
    rows = [decision_row(number + i / 100, f"p {i}", user=user) for i, user in enumerate(users)]
    return write_decisions(folder, replica, number, rows)


def users_in(folder: Path) -> list[str | None]:
    column = read_decisions(folder)["user"]
    return [None if pd.isna(user) else user for user in column]


def test_all_files_of_all_replicas_lose_the_rows_of_a_user_and_no_others(tmp_path: Path) -> None:
    save(tmp_path, "a", 0, ALICE, BOB, None, ALICE)
    only_hers = save(tmp_path, "a", 1, ALICE)
    untouched = save(tmp_path, "b", 2, BOB, None)
    before, number = untouched.read_bytes(), untouched.stat().st_ino
    assert delete_users(tmp_path, [ALICE]) == (3, 2)
    assert users_in(tmp_path) == [BOB, None, BOB, None]
    assert not only_hers.exists()
    assert (untouched.read_bytes(), untouched.stat().st_ino) == (before, number)
    assert delete_users(tmp_path, [ALICE, "c" * 32]) == (0, 0)
    assert delete_users(tmp_path, [ALICE, BOB]) == (2, 2)
    assert users_in(tmp_path) == [None, None]


def test_merged_files_and_the_parts_that_they_replace_lose_the_rows(tmp_path: Path) -> None:
    """A merger that was killed before it deleted the parts has left them."""
    parts = [save(tmp_path, "a", 0, ALICE, BOB), save(tmp_path, "a", 1, ALICE)]
    contents = {part: part.read_bytes() for part in parts}
    merged = merge_decisions(tmp_path, "a", LATER)
    assert merged is not None
    for part, content in contents.items():
        part.write_bytes(content)
    assert users_in(tmp_path) == [ALICE, BOB, ALICE]
    assert delete_users(tmp_path, [ALICE])[0] == 2
    assert users_in(tmp_path) == [BOB]
    merged.unlink()
    assert users_in(tmp_path) == [BOB], "of the part that is left"


def test_a_missing_or_empty_log_has_no_rows(tmp_path: Path) -> None:
    assert delete_users(tmp_path / "none", [ALICE]) == (0, 0)
    assert not (tmp_path / "none").exists()
    assert delete_users(tmp_path, [ALICE]) == (0, 0)


def test_a_damaged_file_is_named_and_stays(tmp_path: Path) -> None:
    path = save(tmp_path, "a", 0, ALICE)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{path.name}: the file is damaged\. Move the file to"):
        delete_users(tmp_path, [ALICE])
    assert path.stat().st_size == 100


def test_a_process_that_merges_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, "a", 0, ALICE)
    monkeypatch.setattr(decision_deletion, "WAIT_SECONDS", 0.1)
    with log_lock(tmp_path, 0):
        with pytest.raises(InputError, match="another process merges files or deletes rows"):
            delete_users(tmp_path, [ALICE])
        save(tmp_path, "a", 1, BOB)
        assert merge_decisions(tmp_path, "a", LATER) is None, "the merger does not wait"
    assert users_in(tmp_path) == [ALICE, BOB]


def test_writers_and_mergers_lose_no_row_meanwhile(tmp_path: Path) -> None:
    """The rows of the other user are all there; those that were written before are deleted."""
    for number in range(10):
        save(tmp_path, "a", number, ALICE, BOB)
    stop, failures = threading.Event(), list[BaseException]()

    def write_and_merge() -> None:
        try:
            for number in range(10, 40):
                save(tmp_path, "a", number, BOB)
                if number % 5 == 0:
                    merge_decisions(tmp_path, "a", datetime(2030, 1, 1, tzinfo=UTC))
        except BaseException as error:
            failures.append(error)
        finally:
            stop.set()

    thread = threading.Thread(target=write_and_merge)
    thread.start()
    deleted = 0
    while not stop.is_set():
        deleted += delete_users(tmp_path, [ALICE])[0]
    thread.join()
    assert failures == [] and deleted == 10
    assert users_in(tmp_path) == [BOB] * 40


def test_a_killed_deletion_leaves_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        save(tmp_path, "a", number, ALICE, BOB)
    replace, calls = os.replace, []

    def killed(*arguments: object, **options: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        delete_users(tmp_path, [ALICE])
    monkeypatch.undo()
    assert users_in(tmp_path) == [BOB, ALICE, BOB, ALICE, BOB]
    assert delete_users(tmp_path, [ALICE]) == (2, 2)
    assert users_in(tmp_path) == [BOB] * 3
