"""The cache of values that are computed from files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from catimage.commands import file_cache
from catimage.commands.file_cache import MISSING, UNREADABLE, FileCache


class Counter:
    """Reads files, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, path: Path) -> str:
        self.count += 1
        return path.read_text()


@pytest.fixture
def without_min_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store also values of files that have just been written."""
    monkeypatch.setattr(file_cache, "MIN_AGE_NS", 0)


def value(folder: Path, compute: Counter, version: str = "1") -> str:
    """Return the value of ``folder/file`` in a new instance of the cache, which is then saved."""
    cache = FileCache(folder / "cache.json", version)
    result: str = cache.get("text", folder / "file", compute)
    cache.save()
    return result


def test_the_value_of_an_unchanged_file_is_computed_once(tmp_path: Path, without_min_age: None):
    (tmp_path / "file").write_text("one")
    compute = Counter()
    assert [value(tmp_path, compute) for _ in range(3)] == ["one"] * 3
    assert compute.count == 1


def test_a_change_is_noticed_if_size_and_time_of_the_file_stay_the_same(
    tmp_path: Path, without_min_age: None
):
    path, compute = tmp_path / "file", Counter()
    path.write_text("one")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    assert value(tmp_path, compute) == "one"
    path.write_text("two")
    os.utime(path, ns=times)
    assert value(tmp_path, compute) == "two"
    replacement = tmp_path / "replacement"
    replacement.write_text("six")
    os.utime(replacement, ns=times)
    replacement.rename(path)
    assert value(tmp_path, compute) == "six"


def test_the_value_of_a_file_that_has_just_changed_is_not_stored(tmp_path: Path):
    (tmp_path / "file").write_text("one")
    compute = Counter()
    assert [value(tmp_path, compute) for _ in range(2)] == ["one"] * 2
    assert compute.count == 2


def test_values_of_another_version_and_a_damaged_cache_are_ignored(
    tmp_path: Path, without_min_age: None
):
    (tmp_path / "file").write_text("one")
    compute = Counter()
    value(tmp_path, compute)
    value(tmp_path, compute, version="2")
    assert compute.count == 2
    for text in ("", "{", "[]", '{"entries": 3}', json.dumps({"version": "2"})):
        (tmp_path / "cache.json").write_text(text)
        value(tmp_path, compute, version="2")
    assert compute.count == 7


def test_the_digest_of_a_folder_depends_on_names_and_contents(tmp_path: Path):
    cache = FileCache(tmp_path / "cache.json", "1")
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("1")
    digests = [cache.digest(folder)]
    (folder / "sub" / "b").write_text("2")
    digests.append(cache.digest(folder))
    (folder / "sub" / "b").rename(folder / "sub" / "c")
    digests.append(cache.digest(folder))
    (folder / "a").write_text("3")
    digests.append(cache.digest(folder))
    assert len(set(digests)) == 4
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_text("4")
    assert cache.digest(folder) == digests[-1]


def test_missing_and_unreadable_paths_have_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = FileCache(tmp_path / "cache.json", "1")
    assert cache.digest(tmp_path / "no") == MISSING
    (tmp_path / "file").write_text("1")

    def refuse(_: Path) -> str:
        raise PermissionError("not allowed")

    monkeypatch.setattr(file_cache, "_sha256", refuse)
    assert cache.digest(tmp_path / "file") == UNREADABLE
