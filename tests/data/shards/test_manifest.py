from pathlib import Path

import pytest

from catimage.data.shards.manifest import (
    MANIFEST_NAME,
    ShardEntry,
    check_candidates,
    delete_stale_files,
    read_manifest,
    write_manifest,
)
from catimage.errors import InputError

ENTRIES = [
    ShardEntry("bb", "mini-1", 4, "d1"),
    ShardEntry("aa", "mini-2", 4, "d2"),
    ShardEntry("cc", "mini-1", 3, "d3"),
]


def test_the_manifest_does_not_depend_on_the_order_of_the_entries(tmp_path: Path):
    write_manifest(tmp_path, ENTRIES)
    first = (tmp_path / MANIFEST_NAME).read_bytes()
    write_manifest(tmp_path, ENTRIES[::-1])
    assert (tmp_path / MANIFEST_NAME).read_bytes() == first
    assert read_manifest(tmp_path) == [ENTRIES[0], ENTRIES[2], ENTRIES[1]]
    assert [p.name for p in tmp_path.iterdir()] == [MANIFEST_NAME]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"shards": [{"shard": "a"}]}', '{"shards": []}'])
def test_an_unreadable_or_empty_manifest_is_refused(tmp_path: Path, text: str):
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json: .*\. Run 'catimage generate' again"):
        read_manifest(tmp_path)


def test_a_missing_manifest_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="Run 'catimage generate' first"):
        read_manifest(tmp_path)


def test_stale_shards_and_temporary_files_are_deleted(tmp_path: Path):
    listed = ["aa.parquet", "bb.parquet", "cc.parquet", MANIFEST_NAME, "notes.txt"]
    for name in [*listed, "old.parquet", ".aa.123.new", ".manifest.json.99.new"]:
        (tmp_path / name).write_text("x")
    assert delete_stale_files(tmp_path, ENTRIES) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(listed)


def test_a_candidate_without_images_is_refused(tmp_path: Path):
    check_candidates(tmp_path, ENTRIES, ["mini-2", "mini-1"], "generate")
    with pytest.raises(
        InputError, match=r"no images of the candidate 'mini-4'\. Run 'catimage generate' first"
    ):
        check_candidates(tmp_path, ENTRIES, ["mini-1", "mini-4"], "generate")
