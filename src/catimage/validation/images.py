"""The frame of generated images: blank images, and equal images of different prompts.

The scores of a generator that yields black images can look plausible: the CLIP score of a black
image depends on the prompt. The images themselves are therefore checked, a sample of each candidate
from the shards that were written last.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from catimage.common.files import damage_reported
from catimage.data.shards.manifest import MANIFEST_NAME, ShardEntry, read_manifest
from catimage.data.shards.store import decode_image, shard_path

COLUMNS = ("candidate", "images", "blank_share", "repeated_share")
"""The columns of the frame."""
NO_IMAGES = pd.DataFrame(columns=list(COLUMNS))
"""The frame without rows."""
SHARDS, IMAGES = 8, 16
"""Number of shards of each candidate, the newest, and of images that are read from each."""
BLANK_RANGE = 8
"""Largest range of the values of a channel, of 255, in an image of one colour."""


def image_frame(folder: Path) -> pd.DataFrame:
    """Return one row per candidate, with shares of the images that were checked.

    A blank image has one colour. A repeated image is equal to the image of another prompt.

    Args:
        folder: the folder of the shards; without a manifest, the frame has no rows.
    """
    rows = []
    if (folder / MANIFEST_NAME).exists():
        entries = [entry for entry in read_manifest(folder) if entry.images]
        by_candidate: dict[str, list[ShardEntry]] = {}
        for entry in entries:
            by_candidate.setdefault(entry.candidate, []).append(entry)
        rows = [(name, *_shares(folder, found)) for name, found in sorted(by_candidate.items())]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _shares(folder: Path, entries: list[ShardEntry]) -> tuple[int, float, float]:
    """Return the number of images that were checked, and the two shares."""
    paths = [path for e in entries if (path := shard_path(folder, e.shard)).exists()]
    newest = sorted(paths, key=lambda path: (-path.stat().st_mtime, path.name))[:SHARDS]
    checked = [image for path in newest for image in _first_images(path)]
    prompts: dict[bytes, set[str]] = {}
    for prompt, data in checked:
        prompts.setdefault(data, set()).add(prompt)
    repeated = sum(len(prompts[data]) > 1 for _, data in checked)
    blank = sum(_is_blank(data) for _, data in checked)
    n = max(len(checked), 1)
    return len(checked), blank / n, repeated / n


def _first_images(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the prompts and the encoded images of the first rows of a shard."""
    with damage_reported(path, "generate", pa.ArrowException), pq.ParquetFile(path) as file:
        batches = file.iter_batches(IMAGES, columns=["prompt_id", "image"])
        rows = next(batches, None)
    if rows is not None:
        pairs = zip(rows["prompt_id"].to_pylist(), rows["image"].to_pylist(), strict=True)
        yield from ((prompt, image) for prompt, image in pairs if image)


def _is_blank(data: bytes) -> bool:
    """Return whether an encoded image has one colour."""
    pixels = decode_image(data).reshape(-1, 3)
    return bool(np.ptp(pixels, axis=0).max() <= BLANK_RANGE)
