"""Shard files: parquet files of images that are written atomically and checked when read."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from catimage.common.pixels import rgb_pixels
from catimage.common.replacement import sync_folder, temporary_path
from catimage.data.schema import IMAGES
from catimage.data.shards.plan import EarlierShard, ImageKey, ShardPlan

KEYS = ("prompt_id", "candidate", "seed")
"""The columns that identify an image."""


class DamagedShard(Exception):
    """A shard file is truncated, altered, or belongs to another plan."""


def shard_path(folder: Path, name: str) -> Path:
    """Return the path of the shard with the name ``name``."""
    return folder / f"{name}.parquet"


def encode_image(image: np.ndarray) -> bytes:
    """Encode an image, uint8 (height, width, 3), as PNG.

    Compression level 1 of 9 takes 0.13 ms per 64-pixel image; higher levels save at most 8% of the
    bytes.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode_image(data: bytes) -> np.ndarray:
    """Decode an encoded image to uint8 (height, width, 3), as displayed on a white page."""
    with Image.open(io.BytesIO(data)) as image:
        return rgb_pixels(image)


def write_shard(
    folder: Path,
    plan: ShardPlan,
    rows: pa.Table,
    refusals: Mapping[ImageKey, str] = MappingProxyType({}),
) -> str:
    """Write a shard to a temporary file, flush it to disk and rename it.

    Args:
        folder: the folder of the shards.
        plan: the plan, which names the file.
        rows: the images in the plan's order, in the schema ``IMAGES``.
        refusals: the reason for each planned image that is not in ``rows``.

    Returns:
        The digest of the images, which is also stored in the footer of the file, with the name and
        the recipe of the plan and the refusals.
    """
    metadata = _metadata(plan)
    if refusals:
        listed = [[i, *key, refusals[key]] for i, key in enumerate(plan.keys) if key in refusals]
        metadata["refusals"] = json.dumps(listed)
    return _write(folder, plan.name, rows, metadata)


def write_image(folder: Path, plan: ShardPlan, row: dict[str, Any]) -> None:
    """Write one image of an unfinished shard to a shard of its own, from which it can be copied.

    Args:
        folder: the folder of the shards.
        plan: the plan of the unfinished shard.
        row: the image, in the schema ``IMAGES``.
    """
    key = hashlib.sha256(f"{plan.recipe} {row['prompt_id']} {row['seed']}".encode())
    rows = pa.Table.from_pylist([row], schema=IMAGES)
    _write(folder, f"image-{key.hexdigest()[:32]}", rows, _metadata(plan))


def _metadata(plan: ShardPlan) -> dict[str, str]:
    """Return the inputs of the images of a shard other than prompts and seeds."""
    return {
        "recipe": plan.recipe,
        "code": json.dumps(dict(plan.code), sort_keys=True),
        "remote": json.dumps(plan.remote),
    }


def _write(folder: Path, name: str, rows: pa.Table, metadata: dict[str, str]) -> str:
    digest = digest_of(rows)
    rows = rows.replace_schema_metadata({"plan": name, "digest": digest, **metadata})
    path = shard_path(folder, name)
    fresh = temporary_path(path)
    try:
        with fresh.open("wb") as file:
            pq.write_table(
                rows,
                file,
                compression="zstd",
                use_dictionary=["prompt_id", "candidate"],
                write_page_checksum=True,
            )
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(folder)
    return digest


def read_shard(folder: Path, name: str) -> tuple[pa.Table, str]:
    """Return the rows of a shard and their digest, after verifying them.

    Raises:
        FileNotFoundError: the shard does not exist.
        DamagedShard: the file is truncated, altered, or belongs to another plan.
    """
    rows = _read(shard_path(folder, name), None)
    metadata = rows.schema.metadata or {}
    if not rows.schema.equals(IMAGES) or metadata.get(b"plan") != name.encode():
        raise DamagedShard("the content does not match the file name")
    digest = digest_of(rows)
    if metadata.get(b"digest") != digest.encode():
        raise DamagedShard("the rows do not match their digest")
    return rows, digest


def finished_digest(folder: Path, plan: ShardPlan, skip_refusals: bool = False) -> str | None:
    """Return the digest of a plan's shard, or None if the shard has to be generated.

    Print a warning if the file is damaged.

    Args:
        folder: the folder of the shards.
        plan: the plan.
        skip_refusals: whether a shard is finished if its missing images were refused.
    """
    try:
        rows, digest = read_shard(folder, plan.name)
    except FileNotFoundError:
        return None
    except DamagedShard as error:
        print(
            f"warning: {shard_path(folder, plan.name)}: the shard is damaged ({error}). It is"
            " generated again.",
            file=sys.stderr,
            flush=True,
        )
        return None
    refused = len(_refusals(rows)) if skip_refusals else 0
    return digest if rows.num_rows + refused == plan.image_count else None


def read_refusals(folder: Path, name: str) -> dict[ImageKey, str]:
    """Return the reason for each planned image of a shard that was refused, in order.

    Raises:
        FileNotFoundError: the shard does not exist.
        DamagedShard: the file is truncated or damaged.
    """
    rows = _read(shard_path(folder, name), ["seed"])
    return {(identifier, seed): reason for _, identifier, seed, reason in _refusals(rows)}


def _refusals(rows: pa.Table) -> list[tuple[int, str, int, str]]:
    """Return position in the plan, prompt id, seed and reason of each refused image of a shard."""
    text = (rows.schema.metadata or {}).get(b"refusals", b"[]")
    return [tuple(entry) for entry in json.loads(text)]


def earlier_shard(folder: Path, name: str) -> EarlierShard:
    """Return the description of a shard file, without reading its images.

    Raises:
        FileNotFoundError: the shard does not exist.
        DamagedShard: the file is truncated or damaged.
    """
    rows = _read(shard_path(folder, name), list(KEYS))
    metadata = rows.schema.metadata or {}
    recipe, code = metadata.get(b"recipe", b"").decode(), json.loads(metadata.get(b"code", b"{}"))
    # Files without the key "remote" have an empty "code" if another computer generated the images.
    remote = json.loads(metadata.get(b"remote", json.dumps(metadata.get(b"code") == b"{}")))
    identifiers, candidates, seeds = (rows.column(key).to_pylist() for key in KEYS)
    candidate = candidates[0] if len(set(candidates)) == 1 else ""
    keys, refused = list(zip(identifiers, seeds, strict=True)), _refusals(rows)
    for position, identifier, seed, _ in refused:
        keys.insert(position, (identifier, seed))
    refused_keys = frozenset((identifier, seed) for _, identifier, seed, _ in refused)
    return EarlierShard(name, candidate, recipe, tuple(keys), refused_keys, code, remote)


def read_keys(folder: Path, name: str) -> pd.DataFrame:
    """Return the columns :data:`KEYS` of a shard, without reading its images.

    Raises:
        FileNotFoundError: the shard does not exist.
        DamagedShard: the file is truncated or damaged.
    """
    frame: pd.DataFrame = _read(shard_path(folder, name), list(KEYS)).to_pandas()
    return frame


def read_seconds(folder: Path, name: str) -> list[float]:
    """Return the known seconds of the images of a shard."""
    column = _read(shard_path(folder, name), ["seconds"]).column("seconds")
    return [float(value) for value in column.drop_null().to_pylist()]


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.read_table(
            path, columns=columns, partitioning=None, page_checksum_verification=True
        )
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DamagedShard("the file is truncated or altered") from error


def digest_of(rows: pa.Table) -> str:
    """Return the SHA-256 of every image's prompt, candidate, seed and encoded bytes, in order.

    The column ``seconds`` is not included.
    """
    digest = hashlib.sha256()
    columns = [rows.column(name).to_pylist() for name in (*KEYS, "image")]
    for identifier, candidate, seed, image in zip(*columns, strict=True):
        digest.update(
            f"{identifier} {candidate} {seed} {hashlib.sha256(image).hexdigest()}\n".encode()
        )
    return digest.hexdigest()
