import numpy as np
import pyarrow as pa
import pytest

from catimage.data.schema import IMAGES
from catimage.data.shards.images import (
    complete_prompts,
    decode_images,
    first_images,
    mean_seconds,
    read_rows,
)
from catimage.data.shards.manifest import ShardEntry, read_manifest, write_manifest
from catimage.data.shards.plan import ShardPlan
from catimage.data.shards.store import encode_image, write_shard
from catimage.errors import InputError


def grey(level):
    """Return an encoded image with one grey level."""
    return encode_image(np.full((2, 2, 3), level, np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Write images of two prompts by candidate ``a``, and of the first prompt by ``b``."""
    entries = []
    for candidate, ids in (("a", ("x", "y")), ("b", ("x",))):
        prompts = tuple((i, f"prompt {i}") for i in ids)
        plan = ShardPlan(candidate, {}, 1, prompts, (1, 0), 4)
        rows = [(i, candidate, s, grey(10 * s), 0.1 + s) for i in ids for s in (1, 0)]
        records = [dict(zip(IMAGES.names, row, strict=True)) for row in rows]
        digest = write_shard(tmp_path, plan, pa.Table.from_pylist(records, schema=IMAGES))
        entries.append(ShardEntry(plan.name, candidate, len(rows), digest))
    write_manifest(tmp_path, entries)
    return tmp_path


def test_first_images_have_the_lowest_seed(folder):
    images = first_images(folder, ["x", "y"])
    assert set(images) == {("x", "a"), ("y", "a"), ("x", "b")}
    assert images["x", "a"] == grey(0)
    assert set(first_images(folder, ["y"])) == {("y", "a")}


def test_seconds_are_means_over_seeds_and_nan_without_an_image(folder):
    seconds = mean_seconds(folder, ["y", "x"], ["a", "b"])
    assert seconds[1].tolist() == pytest.approx([0.6, 0.6])
    assert seconds[0, 0] == pytest.approx(0.6)
    assert np.isnan(seconds[0, 1])


def test_a_complete_prompt_has_equally_many_images_of_every_candidate(folder):
    entries = read_manifest(folder)
    for ids, candidates, expected in (
        (["x", "y"], ["a", "b"], (2, [0])),
        (["y", "x"], ["a"], (2, [0, 1])),
        (["y", "new"], ["a"], (2, [0])),
        (["new"], ["a"], (0, [])),
    ):
        n_images, rows = complete_prompts(folder, entries, ids, candidates)
        assert (n_images, rows.tolist()) == expected
    n_images, rows = complete_prompts(folder, [], ["x"], ["a"])
    assert (n_images, rows.tolist()) == (0, [])


class CountingSet(set):
    """A set that counts membership tests and cannot be iterated over."""

    tests = 0

    def __contains__(self, element):
        self.tests += 1
        return super().__contains__(element)

    __iter__ = None


def test_reading_a_shard_takes_time_in_its_rows_not_in_the_number_of_prompts(folder):
    prompts = CountingSet([f"prompt {i}" for i in range(1000)])
    for entry in read_manifest(folder):
        read_rows(folder, entry, ["seed"], prompts)
    assert prompts.tests == 6


def test_rows_of_other_prompts_are_not_read(folder):
    entry, columns = read_manifest(folder)[0], ["seed", "prompt_id"]
    assert read_rows(folder, entry, columns, {"y", "new"}).to_pydict() == {
        "seed": [1, 0],
        "prompt_id": ["y", "y"],
    }
    empty = read_rows(folder, entry, columns, {"new"})
    assert (empty.num_rows, empty.column_names) == (0, columns)


def test_a_damaged_shard_is_reported(folder):
    entry = read_manifest(folder)[0]
    path = folder / f"{entry.shard}.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"\.parquet: (not found|the file is damaged)"):
        read_rows(folder, entry, ["seed"], {"x"})


def test_the_message_names_an_image_that_cannot_be_decoded():
    assert next(decode_images([grey(7)], ["first"])).max() == 7
    with pytest.raises(InputError, match="the image second cannot be decoded"):
        list(decode_images([grey(7), b"no image"], ["first", "second"]))
