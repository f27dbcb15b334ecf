"""Archives of routers."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from catimage.common.hashing import folder_digest
from catimage.errors import InputError
from catimage.serving.rollout import archive
from catimage.serving.rollout.archive import pack, unpack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files in two levels."""
    (tmp_path / "router" / "estimator").mkdir(parents=True)
    (tmp_path / "router" / "router.json").write_text("{}")
    (tmp_path / "router" / "estimator" / "weights").write_bytes(bytes(range(256)) * 100)
    return tmp_path / "router"


def zipped(name: str, content: bytes = b"x", mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        file.writestr(entry, content)
    return buffer.getvalue()


def test_an_unpacked_folder_has_the_same_digest(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    unpack(pack(folder), target)
    assert folder_digest(target) == folder_digest(folder)
    assert pack(target) == pack(folder)


@pytest.mark.parametrize(
    "name", ["../escaped", "a/../../escaped", "/tmp/escaped", "..\\escaped", "C:/escaped"]
)
def test_entries_outside_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    target.mkdir(parents=True)
    with pytest.raises(InputError, match="not a file below its folder"):
        unpack(zipped(name), target)
    assert list(target.iterdir()) == [] and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_links_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a file below its folder"):
        unpack(zipped("link", b"/etc/passwd", stat.S_IFLNK | 0o777), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_archives_are_refused(folder: Path, tmp_path: Path) -> None:
    data = pack(folder)
    for damaged in (data[:-30], b"not an archive", data[:60] + b"\xff" * 20 + data[80:]):
        target = tmp_path / f"target-{len(damaged)}"
        target.mkdir(exist_ok=True)
        with pytest.raises(InputError, match="damaged"):
            unpack(damaged, target)


def test_the_size_is_limited_also_if_the_archive_states_another(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pack(folder)
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    for action in (lambda: pack(folder), lambda: unpack(data, tmp_path)):
        with pytest.raises(InputError, match="more than 1000 files"):
            action()
    monkeypatch.setattr(archive, "MAX_BYTES", 10**6)
    monkeypatch.setattr(archive, "MAX_FILES", 1)
    with pytest.raises(InputError, match="more than 1 files"):
        unpack(data, tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no files"):
        pack(tmp_path)
