"""Reference images: the same prompt and seed by the candidate that the pool names as a generator's
metric reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pandas as pd

from catimage.data.shards.manifest import Entry
from catimage.data.shards.store import DamagedShard, read_keys, read_shard


class References:
    """Finds reference images (BudgetFusion 3.2) among the live shards.

    Args:
        folder: of the shards.
        entries: the live shards.
        candidates: the reference candidate of each candidate that has one.
    """

    def __init__(self, folder: Path, entries: list[Entry], candidates: Mapping[str, str]) -> None:
        self._folder, self._candidates = folder, candidates
        self._entries = {
            name: [e for e in entries if e.candidate == name] for name in set(candidates.values())
        }
        self._places: dict[str, dict[tuple[str, int], Entry]] = {}
        self._digests: dict[Entry, str] = {}
        self._shard = lru_cache(maxsize=2)(self._read)

    def digest(self, entry: Entry) -> str:
        """Identifies the shards that have the reference images of a shard's; empty where there are
        none.
        """
        if entry not in self._digests:
            whole = "".join(
                e.digest for e in self._used(entry.candidate, read_keys(self._folder, entry.shard))
            )
            self._digests[entry] = hashlib.sha256(whole.encode()).hexdigest()[:16] if whole else ""
        return self._digests[entry]

    def of(self, candidate: str, keys: pd.DataFrame) -> list[bytes | None]:
        """The encoded references of images with these ``prompt_id`` and ``seed``; None where there
        is none.

        Raises:
            FileNotFoundError: a shard with references is not there.
            DamagedShard: one is cut short, altered, or not the manifest's.
        """
        pairs = _pairs(keys)
        found: dict[tuple[str, int], bytes] = {}
        for entry in self._used(
            candidate, keys
        ):  # each is read once, whatever the order of the keys
            images = self._shard(entry)
            found |= {pair: images[pair] for pair in pairs if pair in images}
        return [found.get(pair) for pair in pairs]

    def _used(self, candidate: str, keys: pd.DataFrame) -> list[Entry]:
        """The shards that have these references, in order of their need."""
        reference = self._candidates.get(candidate)
        places = self._places_of(reference) if reference is not None else {}
        return list(dict.fromkeys(places[pair] for pair in _pairs(keys) if pair in places))

    def _places_of(self, reference: str) -> dict[tuple[str, int], Entry]:
        """The shard of every image of a reference candidate."""
        if reference not in self._places:
            found: dict[tuple[str, int], Entry] = {}
            for entry in self._entries[reference]:
                found |= dict.fromkeys(_pairs(read_keys(self._folder, entry.shard)), entry)
            self._places[reference] = found
        return self._places[reference]

    def _read(self, entry: Entry) -> dict[tuple[str, int], bytes]:
        table, digest = read_shard(self._folder, entry.shard)
        if digest != entry.digest:
            raise DamagedShard("it is not the manifest's")
        return dict(
            zip(
                _pairs(table.select(["prompt_id", "seed"]).to_pandas()),
                table.column("image").to_pylist(),
                strict=True,
            )
        )


def _pairs(keys: pd.DataFrame) -> list[tuple[str, int]]:
    return list(zip(keys["prompt_id"], keys["seed"], strict=True))
