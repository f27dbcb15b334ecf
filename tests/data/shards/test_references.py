from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from catimage.data.schema import IMAGES
from catimage.data.shards.manifest import ShardEntry
from catimage.data.shards.plan import Prompt, ShardPlan
from catimage.data.shards.references import References
from catimage.data.shards.store import DamagedShard, encode_image, shard_path, write_shard

PROMPTS = (("p1", "one"), ("p2", "two"), ("p3", "three"))
REFERENCE_OF = {"mini-2": "mini-4", "mini-4": "mini-4", "other": "other"}


def _image(prompt: str, candidate: str, seed: int, variant: int = 0) -> bytes:
    """Return an encoded random image that depends on the arguments."""
    rng = np.random.default_rng([*prompt.encode(), *candidate.encode(), seed, variant])
    return encode_image(rng.integers(0, 256, (4, 4, 3), np.uint8))


def _write_shard(
    folder: Path, candidate: str, prompts: tuple[Prompt, ...], variant: int = 0
) -> ShardEntry:
    plan = ShardPlan(candidate, {"weights": "abc"}, 2, prompts, (0, 1), 3)
    rows = [
        (i, candidate, seed, _image(i, candidate, seed, variant), 0.5)
        for i, _ in prompts
        for seed in plan.seeds
    ]
    table = pa.table(
        dict(zip(IMAGES.names, map(list, zip(*rows, strict=True)), strict=True)), schema=IMAGES
    )
    return ShardEntry(plan.name, candidate, len(rows), write_shard(folder, plan, table))


@pytest.fixture
def entries(tmp_path: Path) -> list[ShardEntry]:
    """Write one or two shards per candidate, with the prompts split at different places."""
    first_shard_prompts = {"mini-2": 2, "mini-4": 1, "other": 2, "single": 3}
    return [
        _write_shard(tmp_path, name, part)
        for name, n in first_shard_prompts.items()
        for part in (PROMPTS[:n], PROMPTS[n:])
        if part
    ]


def _keys(*pairs: tuple[str, int]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["prompt_id", "seed"])


def test_a_reference_with_the_same_prompt_and_seed_is_found_in_any_shard(
    tmp_path: Path, entries: list[ShardEntry], monkeypatch
):
    references, shards_read = References(tmp_path, entries, REFERENCE_OF), []
    read_images = references._images
    monkeypatch.setattr(
        references,
        "_images",
        lambda entry: (shards_read.append(entry.shard), read_images(entry))[1],
    )
    keys = _keys(("p2", 1), ("p1", 0), ("p3", 1), ("p1", 1))
    expected = [_image(prompt, "mini-4", seed) for prompt, seed in keys.itertuples(index=False)]
    assert references.images("mini-2", keys) == expected
    assert references.images("mini-4", keys) == expected, (
        "the reference candidate is its own reference"
    )
    assert len(shards_read) == 4, "each shard is read once per call"


def test_images_gives_none_for_an_image_without_a_reference(
    tmp_path: Path, entries: list[ShardEntry]
):
    references = References(tmp_path, entries, REFERENCE_OF)
    assert references.images("single", _keys(("p1", 0))) == [None]
    assert references.images("other", _keys(("p1", 0), ("p9", 0), ("p1", 7))) == [
        _image("p1", "other", 0),
        None,
        None,
    ]
    absent = References(tmp_path, entries, {"mini-2": "absent"})
    assert absent.images("mini-2", _keys(("p1", 0))) == [None]
    assert [references.digest(e) for e in entries if e.candidate == "single"] == [""]


def test_the_digest_covers_the_references_of_the_shard_only(
    tmp_path: Path, entries: list[ShardEntry]
):
    before = References(tmp_path, entries, REFERENCE_OF)
    shards = {(e.candidate, e.images): e for e in entries}
    first, second = shards["mini-2", 4], shards["mini-2", 2]  # prompts 1 and 2, prompt 3
    changed = _write_shard(tmp_path, "mini-4", PROMPTS[:1], variant=1)
    new_entries = [changed if e.shard == changed.shard else e for e in entries]
    after = References(tmp_path, new_entries, REFERENCE_OF)
    assert after.digest(first) != before.digest(first)
    assert after.digest(second) == before.digest(second), (
        "the references of the second shard are in an unchanged shard"
    )
    other = References(tmp_path, entries, REFERENCE_OF | {"mini-2": "other"})
    assert other.digest(second) not in (before.digest(second), "")


def test_altered_damaged_and_missing_shards_of_references_are_refused(
    tmp_path: Path, entries: list[ShardEntry]
):
    shard = next(e for e in entries if e.candidate == "mini-4" and e.images == 2)
    _write_shard(tmp_path, "mini-4", PROMPTS[:1], variant=1)
    with pytest.raises(DamagedShard, match="the shard does not match the manifest"):
        References(tmp_path, entries, REFERENCE_OF).images("mini-2", _keys(("p1", 0)))
    path = shard_path(tmp_path, shard.shard)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedShard):
        References(tmp_path, entries, REFERENCE_OF).images("mini-2", _keys(("p1", 0)))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        References(tmp_path, entries, REFERENCE_OF).images("mini-2", _keys(("p1", 0)))
