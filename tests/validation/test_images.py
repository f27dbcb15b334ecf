"""Blank and repeated images in real shards, and the sentence about them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catimage.data.shards.manifest import ShardEntry, write_manifest
from catimage.data.shards.store import encode_image, shard_path
from catimage.validation import images
from catimage.validation.failures import describe
from catimage.validation.images import image_frame
from catimage.validation.runner import run
from catimage.validation.suites import suites


def noise(seed: int) -> bytes:
    return encode_image(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8))


BLACK = encode_image(np.zeros((8, 8, 3), np.uint8))
GREY = encode_image(np.random.default_rng(0).integers(120, 128, (8, 8, 3), np.uint8))


def write(folder: Path, candidate: str, shards: list[list[bytes]]) -> list[ShardEntry]:
    """Write shards of one candidate, each newer than the one before."""
    entries = []
    for number, encoded in enumerate(shards):
        name = f"{candidate}-{number}"
        prompts = [f"{number}-{i}" for i in range(len(encoded))]
        pq.write_table(pa.table({"prompt_id": prompts, "image": encoded}), shard_path(folder, name))
        os.utime(shard_path(folder, name), (1000 + number, 1000 + number))
        entries.append(ShardEntry(name, candidate, len(encoded), "digest"))
    return entries


def test_the_shares_are_those_of_the_images_that_were_checked(tmp_path: Path) -> None:
    good = [noise(i) for i in range(10)]
    mixed = [BLACK, GREY, noise(1), noise(1), *(noise(i) for i in range(2, 8))]
    entries = write(tmp_path, "good", [good]) + write(tmp_path, "mixed", [mixed])
    write_manifest(tmp_path, entries)
    rows = image_frame(tmp_path).set_index("candidate")
    assert rows.loc["good"].tolist() == [10, 0.0, 0.0]
    assert rows.loc["mixed"].tolist() == [10, 0.2, 0.2]


def test_the_newest_shards_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An increment of black images is found, although all earlier images are good."""
    monkeypatch.setattr(images, "SHARDS", 2)
    monkeypatch.setattr(images, "IMAGES", 3)
    old = [[noise(10 * n + i) for i in range(5)] for n in range(4)]
    write_manifest(tmp_path, write(tmp_path, "a", [*old, [BLACK] * 3]))
    row = image_frame(tmp_path).iloc[0]
    assert row["images"] == 6 and row["blank_share"] == 0.5 and row["repeated_share"] == 0.5


def test_the_images_of_several_seeds_of_a_prompt_may_be_equal(tmp_path: Path) -> None:
    (entry,) = write(tmp_path, "a", [[noise(1), noise(1)]])
    table = pa.table({"prompt_id": ["p", "p"], "image": [noise(1), noise(1)]})
    pq.write_table(table, shard_path(tmp_path, entry.shard))
    write_manifest(tmp_path, [entry])
    assert image_frame(tmp_path)["repeated_share"].tolist() == [0.0]


def test_without_images_the_frame_has_no_rows(tmp_path: Path) -> None:
    assert image_frame(tmp_path).empty


def test_black_images_fail_the_suite_with_one_sentence(tmp_path: Path) -> None:
    write_manifest(
        tmp_path,
        write(tmp_path, "black", [[BLACK, *(noise(i) for i in range(7))]])
        + write(tmp_path, "good", [[noise(i) for i in range(8)]]),
    )
    suite, frame = suites("generated")["images"], image_frame(tmp_path)
    parameters = {"max_blank_share": 0.1}
    (failed,) = run({"images": suite}, {"images": frame}, parameters, tmp_path / "docs").failures
    problem = describe(failed, "generated", 0.1)
    assert problem.file == "data/images"
    assert problem.problem == (
        "too many images of one colour, such as black images, of the candidates black"
    )
    assert "catimage generate" in problem.fix
