from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from catimage.data.schema import IMAGES
from catimage.data.shards.plan import ShardPlan
from catimage.data.shards.store import (
    DamagedShard,
    decode_image,
    digest_of,
    encode_image,
    finished_digest,
    read_keys,
    read_shard,
    shard_path,
    write_shard,
)

PLAN = ShardPlan("mini-2", {"weights": "abc"}, 2, (("1", "one"), ("2", "two")), (0, 1), 3)


def _rows(seconds: float = 0.5) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = [
        (i, "mini-2", seed, encode_image(rng.integers(0, 256, (8, 8, 3), np.uint8)), seconds)
        for i, _ in PLAN.prompts
        for seed in PLAN.seeds
    ]
    return pa.table(
        dict(zip(IMAGES.names, map(list, zip(*rows, strict=True)), strict=True)), schema=IMAGES
    )


@pytest.fixture(scope="module")
def shard_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("shard")
    write_shard(folder, PLAN, _rows())
    return shard_path(folder, PLAN.name).read_bytes()


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_images_are_encoded_without_loss(image: np.ndarray):
    assert (decode_image(encode_image(image)) == image).all()


def test_write_shard_writes_a_readable_shard_and_no_other_file(tmp_path: Path):
    digest = write_shard(tmp_path, PLAN, _rows())
    rows, digest_read = read_shard(tmp_path, PLAN.name)
    assert rows.equals(_rows())
    assert digest == digest_read == digest_of(_rows())
    assert [p.name for p in tmp_path.iterdir()] == [f"{PLAN.name}.parquet"]
    assert read_keys(tmp_path, PLAN.name).to_numpy().tolist() == [
        ["1", "mini-2", 0],
        ["1", "mini-2", 1],
        ["2", "mini-2", 0],
        ["2", "mini-2", 1],
    ]


def test_the_digest_covers_images_but_not_seconds():
    rows = _rows()
    assert digest_of(_rows(seconds=9.0)) == digest_of(rows)
    assert digest_of(rows.slice(1)) != digest_of(rows)
    assert digest_of(rows.set_column(2, "seed", pa.array([0, 1, 0, 2]))) != digest_of(rows)
    assert digest_of(rows.set_column(3, "image", pa.array([b"x"] * 4, pa.binary()))) != digest_of(
        rows
    )


def test_a_missing_shard_is_not_reported_as_damaged(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_shard(tmp_path, PLAN.name)


@settings(max_examples=40, deadline=None)
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_truncated_shard_counts_as_damaged(
    tmp_path_factory: pytest.TempPathFactory, shard_bytes: bytes, part: float
):
    folder = tmp_path_factory.mktemp("cut")
    shard_path(folder, PLAN.name).write_bytes(shard_bytes[: int(part * len(shard_bytes))])
    with pytest.raises(DamagedShard):
        read_shard(folder, PLAN.name)
    with pytest.raises(DamagedShard):
        read_keys(folder, PLAN.name)


@settings(max_examples=60, deadline=None)
@given(part=st.floats(0, 1, exclude_max=True), flipped_bits=st.integers(1, 255))
def test_an_altered_byte_is_detected_or_changes_no_image(
    tmp_path_factory: pytest.TempPathFactory, shard_bytes: bytes, part: float, flipped_bits: int
):
    folder = tmp_path_factory.mktemp("flip")
    data = bytearray(shard_bytes)
    data[int(part * len(data))] ^= flipped_bits
    shard_path(folder, PLAN.name).write_bytes(data)
    try:
        rows, digest = read_shard(folder, PLAN.name)
    except DamagedShard:
        return
    assert digest == digest_of(rows) == digest_of(_rows())


def test_a_shard_of_another_plan_counts_as_damaged(tmp_path: Path):
    other = ShardPlan("mini-4", {"weights": "abc"}, 4, PLAN.prompts, PLAN.seeds, 3)
    write_shard(tmp_path, other, _rows())
    shard_path(tmp_path, other.name).rename(shard_path(tmp_path, PLAN.name))
    with pytest.raises(DamagedShard, match="the content does not match the file name"):
        read_shard(tmp_path, PLAN.name)


def test_exchanged_rows_are_detected(tmp_path: Path):
    write_shard(tmp_path, PLAN, _rows())
    path = shard_path(tmp_path, PLAN.name)
    rows = pq.read_table(path)
    pq.write_table(rows.take(pa.array([1, 0, 2, 3])), path)
    with pytest.raises(DamagedShard, match="the rows do not match their digest"):
        read_shard(tmp_path, PLAN.name)


def test_a_failed_write_keeps_the_old_shard_and_leaves_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_shard(tmp_path, PLAN, _rows())

    def raise_disk_full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("catimage.data.shards.store.os.fsync", raise_disk_full)
    with pytest.raises(OSError, match="disk full"):
        write_shard(tmp_path, PLAN, _rows(seconds=9.0))
    assert [p.name for p in tmp_path.iterdir()] == [f"{PLAN.name}.parquet"]
    assert read_shard(tmp_path, PLAN.name)[0].equals(_rows())


def test_a_shard_is_finished_if_it_is_undamaged_and_has_all_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert finished_digest(tmp_path, PLAN) is None
    digest = write_shard(tmp_path, PLAN, _rows())
    assert finished_digest(tmp_path, PLAN) == digest
    assert capsys.readouterr().err == ""
    write_shard(tmp_path, PLAN, _rows().slice(1))
    assert finished_digest(tmp_path, PLAN) is None
    path = shard_path(tmp_path, PLAN.name)
    path.write_bytes(path.read_bytes()[:-9])
    assert finished_digest(tmp_path, PLAN) is None
    assert capsys.readouterr().err.startswith(f"warning: {path}: the shard is damaged (")
