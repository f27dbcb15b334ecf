"""Paths of a workspace, and atomic replacement of files and folders."""

import pytest

from catimage.workspace import Workspace, replacing


def test_replacing_writes_and_overwrites_files_and_folders(tmp_path):
    for path in (tmp_path / "deep" / "file", tmp_path / "deep" / "folder"):
        for text in ("old", "new"):
            with replacing(path) as new:
                target = new / "content" if path.name == "folder" else new
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
        assert (path / "content" if path.is_dir() else path).read_text() == "new"
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["file", "folder"]


def test_a_failure_keeps_the_old_output_and_removes_the_new_output(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "complete").touch()
    with pytest.raises(RuntimeError), replacing(tmp_path / "out") as new:
        new.mkdir()
        (new / "partial").touch()
        raise RuntimeError
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "complete"]


def test_a_workspace_creates_no_folder(tmp_path):
    workspace = Workspace(tmp_path)
    assert workspace.embeddings("tiny") == tmp_path / "data" / "embeddings" / "tiny"
    assert not any(tmp_path.iterdir())
