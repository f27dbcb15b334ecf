from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from catimage.data.schema import IMAGES
from catimage.data.shards.manifest import (
    MANIFEST_NAME,
    ShardEntry,
    check_candidates,
    delete_stale_files,
    read_manifest,
    write_manifest,
)
from catimage.data.shards.plan import ShardPlan
from catimage.data.shards.store import earlier_shard, write_image, write_shard
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


def _write_shard(folder: Path, plan: ShardPlan) -> ShardEntry:
    rows = [
        {"prompt_id": i, "candidate": plan.candidate, "seed": seed, "image": b"x", "seconds": 1.0}
        for i, seed in plan.keys
    ]
    digest = write_shard(folder, plan, pa.Table.from_pylist(rows, schema=IMAGES))
    return ShardEntry(plan.name, plan.candidate, len(rows), digest)


def test_stale_shards_of_paid_images_are_kept_unless_all_images_are_copied(tmp_path: Path):
    """A candidate may be commented out for one run; its images must not be bought again."""
    prompts = (("1", "one"), ("2", "two"), ("3", "three"))
    local = ShardPlan("local", {}, 1, prompts, (0,), 4, code={"code": "a"})
    hosted = ShardPlan("hosted", {}, 1, prompts, (0,), 4, remote=True)
    part = replace(hosted, prompts=prompts[:1])
    other = replace(hosted, candidate="removed")
    for plan in (local, part, other):
        _write_shard(tmp_path, plan)
    image = {"prompt_id": "4", "candidate": "hosted", "seed": 0, "image": b"x", "seconds": 1.0}
    write_image(tmp_path, hosted, image)
    write_image(tmp_path, hosted, {**image, "prompt_id": "2"})
    entries = [_write_shard(tmp_path, hosted)]
    assert delete_stale_files(tmp_path, entries) == 3, "one local shard, and two that are copied"
    names = {path.stem for path in tmp_path.glob("*.parquet")}
    assert {hosted.name, other.name} < names and len(names) == 3
    assert {len(earlier_shard(tmp_path, name).keys) for name in names} == {3, 1}
    assert delete_stale_files(tmp_path, entries) == 0


def test_a_candidate_without_images_is_refused(tmp_path: Path):
    check_candidates(tmp_path, ENTRIES, ["mini-2", "mini-1"], "generate")
    with pytest.raises(
        InputError, match=r"no images of the candidate 'mini-4'\. Run 'catimage generate' first"
    ):
        check_candidates(tmp_path, ENTRIES, ["mini-1", "mini-4"], "generate")
