"""Replacement of files and folders, also if a process is killed or the system has no exchange."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from catimage.common import replacement
from catimage.common.replacement import is_running, remove_leftovers, swap, temporary_path
from catimage.workspace import replacing
from tests.common.kill_points import killed_before

DEAD_PID = 2**22 + 1
"""A number that is larger than those of all processes."""


def write(path: Path, text: str, kind: str) -> None:
    """Write a file, or a folder with two files."""
    if kind == "file":
        path.write_text(text)
        return
    path.mkdir()
    (path / "first").write_text(text)
    (path / "second").write_text(text)


def read(path: Path) -> set[str]:
    """Return the texts in a file or folder."""
    files = [path] if path.is_file() else list(path.iterdir())
    return {file.read_text() for file in files}


def replace_by_new(path: Path, kind: str) -> None:
    with replacing(path) as new:
        write(new, "new", kind)


@pytest.fixture(params=["exchange", "three renames"])
def no_exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with and without the system call that exchanges names."""
    if request.param == "three renames":
        monkeypatch.setattr(replacement, "_exchange", lambda first, second: False)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_kill_at_any_point_leaves_the_old_or_the_new_version(
    tmp_path: Path, kind: str, no_exchange: None
) -> None:
    change, versions = 0, []
    killed = True
    while killed:
        change += 1
        folder = tmp_path / str(change)
        folder.mkdir()
        path = folder / "output"
        write(path, "old", kind)
        killed = killed_before(change, lambda path=path: replace_by_new(path, kind))
        remove_leftovers(folder)
        assert [p.name for p in folder.iterdir()] == ["output"]
        assert len(read(path)) == 1
        versions += read(path)
    assert versions == sorted(versions, reverse=True) and set(versions) == {"old", "new"}


def test_a_folder_has_its_name_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "output"
    write(path, "old", "folder")
    existed = []
    rename, exchange = Path.rename, replacement._exchange

    def checked_rename(self: Path, target: Path) -> Path:
        result = rename(self, target)
        existed.append(path.exists())
        return result

    def checked_exchange(first: Path, second: Path) -> bool:
        done = exchange(first, second)
        existed.append(path.exists())
        return done

    monkeypatch.setattr(Path, "rename", checked_rename)
    monkeypatch.setattr(replacement, "_exchange", checked_exchange)
    replace_by_new(path, "folder")
    assert existed == [True] and read(path) == {"new"}


def test_names_of_a_file_and_a_folder_are_exchanged(tmp_path: Path, no_exchange: None) -> None:
    write(tmp_path / "a", "a", "file")
    write(tmp_path / "b", "b", "folder")
    swap(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").is_dir() and (tmp_path / "b").read_text() == "a"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failed_rename_restores_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacement, "_exchange", lambda first, second: False)
    write(tmp_path / "b", "b", "folder")
    write(tmp_path / "a", "a", "file")
    rename = Path.rename

    def full_disk(self: Path, target: Path) -> Path:
        if self.name == "a":
            raise OSError(errno.ENOSPC, "full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full_disk)
    with pytest.raises(OSError, match="full"):
        swap(tmp_path / "a", tmp_path / "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "b").is_dir()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_exchange_is_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def unsupported(first: bytes, second: bytes) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(replacement, "_exchange_function", lambda: unsupported)
    write(tmp_path / "output", "old", "folder")
    replace_by_new(tmp_path / "output", "folder")
    assert read(tmp_path / "output") == {"new"} and len(list(tmp_path.iterdir())) == 1


def test_content_and_names_are_flushed_before_the_replacement_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    replace_by_new(tmp_path / "output", "folder")
    new = str(temporary_path(tmp_path / "output"))
    assert sorted(flushed[:2]) == [f"{new}/first", f"{new}/second"]
    assert flushed[2:] == [new, str(tmp_path)]


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    host = temporary_path(Path("x")).name.split(".")[2]
    names = {
        f".output.{host}.{DEAD_PID}.new": False,
        f".output.{host}.{DEAD_PID}.old": False,
        f".lost.{host}.{DEAD_PID}.old": False,
        f".output.{host}.1.new": True,  # process 1 runs
        f".output.another-machine.{DEAD_PID}.new": True,
        ".notes.new": True,
    }
    (tmp_path / "output").write_text("current")
    for name in names:
        (tmp_path / name).write_text(name)
    os.utime(tmp_path / ".notes.new", (0, 0))
    remove_leftovers(tmp_path)
    kept = {name for name, keep in names.items() if keep}
    assert {p.name for p in tmp_path.iterdir()} == {"output", "lost", *kept}
    assert (tmp_path / "output").read_text() == "current"
    os.utime(tmp_path / f".output.another-machine.{DEAD_PID}.new", (0, 0))
    remove_leftovers(tmp_path, "output")
    assert not (tmp_path / f".output.another-machine.{DEAD_PID}.new").exists()


def test_files_of_running_containers_with_the_same_host_name_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of their processes may not exist in this container."""
    namespaces = {name: tmp_path / name for name in ("one", "two", "none")}
    for name in ("one", "two"):
        namespaces[name].touch()
    hosts = {}
    for name, path in namespaces.items():
        monkeypatch.setattr(replacement, "_PROCESSES", path)
        hosts[name] = replacement._host()
    assert hosts["one"].startswith(f"{hosts['none']}-") and len(set(hosts.values())) == 3
    folder = tmp_path / "folder"
    folder.mkdir()
    live = folder / f".output.{hosts['one']}.{DEAD_PID}.new"
    live.touch()
    monkeypatch.setattr(replacement, "_HOST", hosts["two"])
    remove_leftovers(folder)
    assert live.exists()
    monkeypatch.setattr(replacement, "_HOST", hosts["one"])
    remove_leftovers(folder)
    assert not live.exists()


def test_a_missing_folder_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "missing")
    assert is_running(os.getpid()) and is_running(1) and not is_running(DEAD_PID)


def test_a_swap_of_paths_that_do_not_exist_changes_nothing(tmp_path: Path) -> None:
    swap(tmp_path / "a", tmp_path / "b")
    assert list(tmp_path.iterdir()) == []
