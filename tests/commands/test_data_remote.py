"""The DVC remote of a workspace, in a folder; tests/system/test_storage.py uses S3."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from catimage.commands.data_remote import DataRemote, configured_remote, pull, push
from catimage.errors import InputError
from catimage.workspace import Workspace

PIPELINE = """
stages:
  one:
    cmd: mkdir -p data/images && echo 1 > data/images/a && echo 2 > data/images/b && echo 3 > data/t
    outs:
    - data/images: {persist: true}
    - data/t: {persist: true}
"""


def new_repository(folder: Path) -> Workspace:
    """Make a repository with a folder and a file, after ``dvc repro``."""
    from dvc.repo import Repo

    folder.mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    with Repo.init(str(folder)) as repo:
        repo.reproduce(str(folder / "dvc.yaml"))
    return Workspace(folder)


def clone_of(workspace: Workspace, folder: Path) -> Workspace:
    """Make another repository with the same ``dvc.lock`` and without data."""
    from dvc.repo import Repo

    folder.mkdir()
    for name in ("dvc.yaml", "dvc.lock"):
        (folder / name).write_bytes((workspace.root / name).read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    Repo.init(str(folder)).close()
    return Workspace(folder)


def contents(workspace: Workspace) -> dict[str, str]:
    data = workspace.root / "data"
    paths = [p for p in data.rglob("*") if p.is_file() and p.name != ".gitignore"]
    return {str(path.relative_to(data)): path.read_text() for path in paths}


EXPECTED = {"images/a": "1\n", "images/b": "2\n", "t": "3\n"}


def test_another_machine_gets_the_outputs_that_it_lacks_and_keeps_its_own(tmp_path: Path) -> None:
    workspace, remote = new_repository(tmp_path / "one"), DataRemote(str(tmp_path / "remote"))
    assert push(workspace, remote) == 4, "three files and the list of the files of the folder"
    assert push(workspace, remote) == 0
    other = clone_of(workspace, tmp_path / "two")
    assert sorted(pull(other, remote)) == ["data/images", "data/t"]
    assert contents(other) == EXPECTED
    (other.root / "data" / "t").write_text("changed here")
    assert pull(other, remote) == []
    assert contents(other) == EXPECTED | {"t": "changed here"}


def test_missing_data_and_unusable_places_are_reported(tmp_path: Path) -> None:
    workspace = new_repository(tmp_path / "one")
    other = clone_of(workspace, tmp_path / "two")
    with pytest.raises(InputError, match=r"CATIMAGE_DVC_REMOTE .*: .*data/t.* Correct the cause"):
        pull(other, DataRemote(str(tmp_path / "empty")))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"CATIMAGE_DVC_REMOTE \(.*file\): "):
        push(workspace, DataRemote(str(tmp_path / "file")))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "dvc.lock").write_text("stages: {one: {outs: [{path: x, md5: a}]}}")
    with pytest.raises(InputError, match="not inside of a DVC repository"):
        pull(Workspace(tmp_path / "none"), DataRemote(str(tmp_path / "empty")))


def test_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CATIMAGE_DVC_REMOTE", raising=False)
    assert configured_remote() is None
    monkeypatch.setenv("CATIMAGE_DVC_REMOTE", "s3://bucket/place")
    assert configured_remote() == DataRemote("s3://bucket/place", False)
    monkeypatch.setenv("CATIMAGE_DVC_VERSION_AWARE", "True")
    assert configured_remote() == DataRemote("s3://bucket/place", True)
    monkeypatch.setenv("CATIMAGE_DVC_VERSION_AWARE", "maybe")
    with pytest.raises(InputError, match="'maybe' is neither true nor false"):
        configured_remote()
    monkeypatch.delenv("CATIMAGE_DVC_VERSION_AWARE")
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setattr("catimage.commands.data_remote.find_spec", lambda name: name == "dvc")
    with pytest.raises(InputError, match=r"pip install 'catimage\[s3\]'"):
        configured_remote()
