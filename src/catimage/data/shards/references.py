"""Reference images: those with the same prompt and seed by the reference candidate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

from catimage.data.shards.manifest import ShardEntry
from catimage.data.shards.store import DamagedShard, read_keys, read_shard

Key = tuple[str, int]
"""``prompt_id`` and seed."""


class References:
    """Finds the reference images (BudgetFusion 3.2) of images in shards.

    Args:
        folder: the folder of the shards.
        entries: the live shards.
        candidates: the reference candidate by candidate; candidates without one are absent.
    """

    def __init__(
        self, folder: Path, entries: Sequence[ShardEntry], candidates: Mapping[str, str]
    ) -> None:
        self._folder, self._candidates = folder, candidates
        self._entries = {
            name: [e for e in entries if e.candidate == name] for name in set(candidates.values())
        }
        self._locations: dict[str, dict[Key, ShardEntry]] = {}
        self._digests: dict[ShardEntry, str] = {}
        self._images = lru_cache(maxsize=2)(self._read_images)

    def digest(self, entry: ShardEntry) -> str:
        """Return a digest of the shards with the references of a shard; empty if it has none."""
        if entry not in self._digests:
            keys = read_keys(self._folder, entry.shard)
            digests = "".join(e.digest for e in self._reference_shards(entry.candidate, keys))
            self._digests[entry] = (
                hashlib.sha256(digests.encode()).hexdigest()[:16] if digests else ""
            )
        return self._digests[entry]

    def images(self, candidate: str, keys: pd.DataFrame) -> list[bytes | None]:
        """Return the encoded reference of each image, or None if it has none.

        Args:
            candidate: the candidate of the images.
            keys: their ``prompt_id`` and ``seed``.

        Raises:
            FileNotFoundError: a shard with references does not exist.
            DamagedShard: a shard with references is truncated, altered, or not the manifest's.
        """
        pairs = _pairs(keys)
        references: dict[Key, bytes] = {}
        for entry in self._reference_shards(candidate, keys):  # reads each shard once
            images = self._images(entry)
            references |= {pair: images[pair] for pair in pairs if pair in images}
        return [references.get(pair) for pair in pairs]

    def _reference_shards(self, candidate: str, keys: pd.DataFrame) -> list[ShardEntry]:
        """Return the shards with the references of these images, in the order of first use."""
        reference = self._candidates.get(candidate)
        locations = self._locations_of(reference) if reference is not None else {}
        return list(dict.fromkeys(locations[pair] for pair in _pairs(keys) if pair in locations))

    def _locations_of(self, reference: str) -> dict[Key, ShardEntry]:
        """Return the shard of every image of a reference candidate."""
        if reference not in self._locations:
            locations: dict[Key, ShardEntry] = {}
            for entry in self._entries[reference]:
                locations |= dict.fromkeys(_pairs(read_keys(self._folder, entry.shard)), entry)
            self._locations[reference] = locations
        return self._locations[reference]

    def _read_images(self, entry: ShardEntry) -> dict[Key, bytes]:
        table, digest = read_shard(self._folder, entry.shard)
        if digest != entry.digest:
            raise DamagedShard("the shard does not match the manifest")
        pairs = _pairs(table.select(["prompt_id", "seed"]).to_pandas())
        return dict(zip(pairs, table.column("image").to_pylist(), strict=True))


def _pairs(keys: pd.DataFrame) -> list[Key]:
    return list(zip(keys["prompt_id"], keys["seed"], strict=True))
