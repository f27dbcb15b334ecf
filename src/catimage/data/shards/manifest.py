"""The manifest: the list of the shards that belong to the current data.

The manifest is written after all shards. Shard files that it does not list are ignored, and the
next complete run deletes them, except those of paid images.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from catimage.common.files import damage_reported
from catimage.data.shards.plan import PROTOCOL, EarlierShard, ImageKey
from catimage.data.shards.store import (
    DamagedShard,
    earlier_shard,
    read_keys,
    read_refusals,
    shard_path,
)
from catimage.errors import InputError
from catimage.workspace import replacing

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class ShardEntry:
    """A shard in the manifest.

    Attributes:
        shard: the name of the shard, which is the hash of its plan.
        candidate: the name of the candidate that the images belong to.
        images: the number of images.
        digest: the digest of the images (:func:`catimage.data.shards.store.digest_of`).
        refused: the number of planned images that do not exist, because a model or its server
            refused them.
    """

    shard: str
    candidate: str
    images: int
    digest: str
    refused: int = 0


def write_manifest(folder: Path, entries: Sequence[ShardEntry]) -> None:
    """Write ``folder/manifest.json``, sorted by candidate and shard, atomically and to the disk."""
    rows = sorted((asdict(e) for e in entries), key=lambda e: (e["candidate"], e["shard"]))
    rows = [{key: value for key, value in row.items() if key != "refused" or value} for row in rows]
    with replacing(folder / MANIFEST_NAME) as fresh:
        fresh.write_text(json.dumps({"protocol": PROTOCOL, "shards": rows}, indent=1) + "\n")


def read_manifest(folder: Path) -> list[ShardEntry]:
    """Return the shards that ``folder/manifest.json`` lists.

    Raises:
        InputError: the manifest is missing, unreadable or empty.
    """
    path = folder / MANIFEST_NAME
    with damage_reported(path, "generate"):
        entries = [ShardEntry(**row) for row in json.loads(path.read_text())["shards"]]
    if not entries:
        raise InputError(f"{path}: no shards are listed. Run 'catimage generate' again.")
    return entries


def delete_stale_files(folder: Path, entries: Sequence[ShardEntry]) -> int:
    """Delete the files of :func:`stale_files`; return their number."""
    stale = stale_files(folder, entries)
    for path in stale:
        path.unlink()
    return len(stale)


def stale_files(folder: Path, entries: Sequence[ShardEntry]) -> list[Path]:
    """Return the temporary files and the shards that are not in ``entries``.

    Images that another computer generated are usually paid for. Their files are stale only if all
    of their images have been copied to shards in ``entries``.
    """
    listed = {shard_path(folder, e.shard) for e in entries}
    stale = [p for pattern in (".*.new", ".*.old") for p in folder.glob(pattern)]
    shards = {p: _earlier_shard(p) for p in folder.glob("*.parquet") if p not in listed}
    paid = {path: shard.images for path, shard in shards.items() if shard and shard.remote}
    copies = set[tuple[str, ImageKey]]()
    for path in listed if paid else ():
        shard = _earlier_shard(path)
        copies |= shard.images if shard else set()
    return [*stale, *(path for path in shards if paid.get(path, copies) <= copies)]


def _earlier_shard(path: Path) -> EarlierShard | None:
    try:
        return earlier_shard(path.parent, path.stem)
    except (DamagedShard, FileNotFoundError):
        return None


def refused_images(folder: Path, entries: Sequence[ShardEntry]) -> pd.DataFrame:
    """Return the refused images of shards, with their reasons.

    Args:
        folder: the folder of the shards.
        entries: the shards that the manifest lists.

    Returns:
        A table with the columns ``prompt_id``, ``candidate``, ``seed`` and ``reason``.

    Raises:
        InputError: a shard is missing or damaged.
    """
    rows = []
    for entry in entries:
        if entry.refused:
            with damage_reported(shard_path(folder, entry.shard), "generate", DamagedShard):
                refusals = read_refusals(folder, entry.shard)
            rows += [(i, entry.candidate, seed, reason) for (i, seed), reason in refusals.items()]
    return pd.DataFrame(rows, columns=["prompt_id", "candidate", "seed", "reason"])


def check_candidates(
    folder: Path, entries: Sequence[ShardEntry], candidates: Sequence[str], command: str
) -> None:
    """Check that every candidate has images.

    Args:
        folder: the folder of the shards.
        entries: the shards that the manifest lists.
        candidates: the names of the candidates.
        command: the command that writes missing images, for the message.

    Raises:
        InputError: a candidate has no images.
    """
    present = {entry.candidate for entry in entries}
    missing = [name for name in candidates if name not in present]
    if missing:
        raise InputError(
            f"{folder}: no images of the candidate {missing[0]!r}. Run 'catimage {command}' first."
        )


def check_prompts(
    folder: Path,
    entries: Sequence[ShardEntry],
    prompt_ids: Sequence[str],
    complete: bool,
    command: str,
) -> None:
    """Check that the images belong to the prompts, without reading the images.

    Args:
        folder: the folder of the shards.
        entries: the shards that the manifest lists.
        prompt_ids: the ids of the workspace's prompts.
        complete: whether every prompt needs all images: of every candidate and seed or, for
            imported images, which may have a seed of their own, equally many of every candidate.
            Refused images are not missing.
        command: the command that writes missing images, ``generate`` or ``import-images``.

    Raises:
        InputError: a shard is missing or damaged, images belong to other prompts, or ``complete``
            is True and a prompt lacks images.
    """
    counts, n_images, n_seeds = _count_images(folder, entries, command)
    per_candidate = dict.fromkeys(prompt_ids, n_seeds) if command == "generate" else n_images
    n_candidates = len({entry.candidate for entry in entries})
    incomplete = sum(counts[i] < max(per_candidate[i], 1) * n_candidates for i in prompt_ids)
    if incomplete and complete:
        raise InputError(
            f"{folder}: {incomplete} of {len(prompt_ids)} prompts lack images. Run 'catimage"
            f" {command}' first."
        )
    unknown = len(set(counts) - set(prompt_ids))
    if unknown:
        raise InputError(
            f"{folder}: {unknown} prompts with images are not in the prompts table. Run 'catimage"
            f" {command}' again."
        )


def _count_images(
    folder: Path, entries: Sequence[ShardEntry], command: str
) -> tuple[Counter[str], Counter[str], int]:
    """Return the number of images by prompt, the largest number of them of one candidate by prompt,
    and the number of seeds of all images.
    """
    counts, seeds = Counter[tuple[str, str]](), set[int]()
    for entry in entries:
        with damage_reported(shard_path(folder, entry.shard), command, DamagedShard):
            keys = read_keys(folder, entry.shard)
            refused = list(read_refusals(folder, entry.shard)) if entry.refused else []
        counts.update(zip(keys["prompt_id"], keys["candidate"], strict=True))
        counts.update((identifier, entry.candidate) for identifier, _ in refused)
        seeds |= {*keys["seed"], *(seed for _, seed in refused)}
    total, largest = Counter[str](), Counter[str]()
    for (identifier, _), n in counts.items():
        total[identifier] += n
        largest[identifier] = max(largest[identifier], n)
    return total, largest, len(seeds)
