"""Reference images: the images of a reference candidate for the same prompt and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from catimage.data.shards.manifest import ShardEntry
from catimage.data.shards.store import DamagedShard, read_keys, read_refusals, read_shard

Key = tuple[str, int]
"""The ``prompt_id`` and the seed of an image."""


class References:
    """The reference images of the images in shards (BudgetFusion paper, section 3.2).

    Args:
        folder: the folder of the shards.
        entries: the shards that the manifest lists.
        reference_of: the name of the reference candidate of each candidate that has one.
    """

    def __init__(
        self, folder: Path, entries: Sequence[ShardEntry], reference_of: Mapping[str, str]
    ) -> None:
        self._folder, self._reference_of = folder, reference_of
        self._entries = {
            name: [e for e in entries if e.candidate == name] for name in set(reference_of.values())
        }
        self._locations: dict[str, dict[Key, ShardEntry]] = {}
        self._digests: dict[ShardEntry, str] = {}
        self._images = lru_cache(maxsize=2)(self._read_images)

    def digest(self, entry: ShardEntry) -> str:
        """Return a digest of the shards with the references of a shard's images.

        The digest is an empty string if the images have no references.
        """
        if entry not in self._digests:
            keys = read_keys(self._folder, entry.shard)
            digests = "".join(e.digest for e in self._reference_shards(entry.candidate, keys))
            self._digests[entry] = (
                hashlib.sha256(digests.encode()).hexdigest()[:16] if digests else ""
            )
        return self._digests[entry]

    def refused(self, candidate: str, keys: pd.DataFrame) -> NDArray[np.bool_]:
        """Return whether the reference image of each image was refused, (n_images,).

        Args:
            candidate: the name of the candidate that the images belong to.
            keys: the columns ``prompt_id`` and ``seed`` of the images.
        """
        entries = self._entries.get(self._reference_of.get(candidate, ""), [])
        refused: set[Key] = set()
        for entry in entries:
            if entry.refused:
                refused |= read_refusals(self._folder, entry.shard).keys()
        return np.array([pair in refused for pair in _pairs(keys)], bool)

    def images(self, candidate: str, keys: pd.DataFrame) -> list[bytes | None]:
        """Return the encoded reference image of each image, or None for an image without one.

        Args:
            candidate: the name of the candidate that the images belong to.
            keys: the columns ``prompt_id`` and ``seed`` of the images.

        Raises:
            FileNotFoundError: a shard with references does not exist.
            DamagedShard: a shard with references is truncated or altered, or does not match the
                manifest.
        """
        pairs = _pairs(keys)
        references: dict[Key, bytes] = {}
        for entry in self._reference_shards(candidate, keys):  # reads each shard once
            images = self._images(entry)
            references |= {pair: images[pair] for pair in pairs if pair in images}
        return [references.get(pair) for pair in pairs]

    def _reference_shards(self, candidate: str, keys: pd.DataFrame) -> list[ShardEntry]:
        """Return the shards with the references of these images, in the order of first use."""
        reference = self._reference_of.get(candidate)
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
