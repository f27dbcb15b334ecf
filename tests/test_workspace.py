import pytest

from catimage.workspace import Workspace, replacing


def test_a_file_and_a_folder_are_replaced_whole(tmp_path):
    for path in (tmp_path / "deep" / "file", tmp_path / "deep" / "folder"):
        for text in ("old", "new"):
            with replacing(path) as fresh:
                target = fresh / "inside" if path.name == "folder" else fresh
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
        assert (path / "inside" if path.is_dir() else path).read_text() == "new"
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["file", "folder"]


def test_a_failure_leaves_what_was_there_and_no_litter(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "good").touch()
    with pytest.raises(RuntimeError), replacing(tmp_path / "out") as fresh:
        fresh.mkdir()
        (fresh / "half").touch()
        raise RuntimeError
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "good"]


def test_paths(tmp_path):
    workspace = Workspace(tmp_path)
    assert workspace.embeddings("tiny") == tmp_path / "data" / "embeddings" / "tiny"
    assert not any(tmp_path.iterdir())
