"""Functions that read the images of given prompts, and their generation times, from shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import UnidentifiedImageError

from catimage.common.arrays import Floats, Ints
from catimage.common.files import damage_reported
from catimage.data.shards.manifest import ShardEntry, read_manifest
from catimage.data.shards.store import KEYS, decode_image, shard_path
from catimage.errors import InputError


def read_rows(
    folder: Path, entry: ShardEntry, columns: Sequence[str], prompt_ids: AbstractSet[str]
) -> pa.Table:
    """Read the rows of some prompts from one shard, in time that does not grow with their number.

    Args:
        folder: the folder of the shards.
        entry: the manifest's entry of the shard.
        columns: the names of the columns to read.
        prompt_ids: the ids of the prompts.

    Raises:
        InputError: the shard is missing or damaged.
    """
    path = shard_path(folder, entry.shard)
    with damage_reported(path, "generate", pa.ArrowException), pq.ParquetFile(path) as file:
        selected_rows = [i in prompt_ids for i in file.read(["prompt_id"]).column(0).to_pylist()]
        if not any(selected_rows):
            return file.schema_arrow.empty_table().select(list(columns))
        return file.read(list(columns)).select(list(columns)).filter(pa.array(selected_rows))


def first_images(folder: Path, prompt_ids: Sequence[str]) -> dict[tuple[str, str], bytes]:
    """Return the encoded image with the lowest seed of each prompt and candidate.

    Args:
        folder: the folder of the shards.
        prompt_ids: the ids of the prompts.

    Returns:
        The encoded images by prompt id and candidate. Pairs without an image are omitted.

    Raises:
        InputError: the manifest or a shard is missing or damaged.
    """
    images: dict[tuple[str, str], tuple[int, bytes]] = {}
    selected_ids = set(prompt_ids)
    for entry in read_manifest(folder):
        for row in read_rows(folder, entry, [*KEYS, "image"], selected_ids).to_pylist():
            key = row["prompt_id"], row["candidate"]
            if key not in images or row["seed"] < images[key][0]:
                images[key] = row["seed"], row["image"]
    return {key: image for key, (_, image) in images.items()}


def mean_seconds(folder: Path, prompt_ids: Sequence[str], candidates: Sequence[str]) -> Floats:
    """Return the measured generation time per image, averaged over the seeds.

    Args:
        folder: the folder of the shards.
        prompt_ids: the ids of the prompts.
        candidates: the names of the candidates.

    Returns:
        Seconds (n_prompts, n_candidates), NaN where there is no image.

    Raises:
        InputError: the manifest or a shard is missing or damaged.
    """
    columns, selected_ids = ["prompt_id", "candidate", "seconds"], set(prompt_ids)
    frames = [
        read_rows(folder, entry, columns, selected_ids).to_pandas()
        for entry in read_manifest(folder)
    ]
    mean = pd.concat(frames).groupby(["prompt_id", "candidate"])["seconds"].mean().unstack()
    seconds: Floats = mean.reindex(index=prompt_ids, columns=candidates).to_numpy(float)
    return seconds


def complete_prompts(
    folder: Path,
    entries: Sequence[ShardEntry],
    prompt_ids: Sequence[str],
    candidates: Sequence[str],
) -> tuple[int, Ints]:
    """Return the prompts that have all images, equally many of every candidate.

    The seeds may differ: imported images often have a seed of their own.

    Args:
        folder: the folder of the shards.
        entries: the shards to read.
        prompt_ids: the ids of the prompts.
        candidates: the names of the candidates.

    Returns:
        The largest number of images of one prompt and candidate, and the positions in
        ``prompt_ids`` of the prompts that have as many images of every candidate.

    Raises:
        InputError: a shard is missing or damaged.
    """
    if not entries:
        return 0, np.zeros(0, int)
    selected_ids = set(prompt_ids)
    frames = [read_rows(folder, entry, KEYS, selected_ids).to_pandas() for entry in entries]
    counts = pd.concat(frames).drop_duplicates().groupby(["prompt_id", "candidate"]).size()
    table = counts.unstack().reindex(index=prompt_ids, columns=candidates).fillna(0).to_numpy(int)
    n_images = int(table.max(initial=0))
    return n_images, np.flatnonzero((table == n_images).all(axis=1) & (n_images > 0))


def decode_images(images: Sequence[bytes], names: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield decoded images, uint8 (height, width, 3).

    Args:
        images: the encoded images.
        names: one description per image, for the error message.

    Raises:
        InputError: an image cannot be decoded.
    """
    for data, name in zip(images, names, strict=True):
        try:
            yield decode_image(data)
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(
                f"data/images: the image {name} cannot be decoded. Generate or import it again."
            ) from error
