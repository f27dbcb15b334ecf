"""Images of earlier runs that are copied to new shards instead of being generated again.

A shard file is reused as a whole if its plan has not changed. If prompts were removed or seeds were
added, the plan has changed, but many of its images exist in shards of earlier runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from catimage.data.schema import IMAGES
from catimage.data.shards.plan import EarlierShard, ImageKey, ShardPlan
from catimage.data.shards.store import (
    DamagedShard,
    earlier_shard,
    finished_digest,
    read_shard,
    write_shard,
)

Row = dict[str, Any]
"""An image: a row in the schema ``IMAGES``, by column."""


def earlier_shards(folder: Path) -> list[EarlierShard]:
    """Return the undamaged shard files in a folder, sorted by name, also those of killed runs."""
    shards = []
    for path in sorted(folder.glob("*.parquet")):
        try:
            shards.append(earlier_shard(folder, path.stem))
        except (DamagedShard, FileNotFoundError):
            continue
    return shards


class EarlierImages:
    """The images in shards of earlier runs.

    Args:
        folder: the folder of the shards.
        shards: the shards whose images may be copied.

    Attributes:
        folder: the folder of the shards.
        shards: the shards whose images may be copied.
    """

    def __init__(self, folder: Path, shards: Sequence[EarlierShard]) -> None:
        self.folder, self.shards = folder, shards
        self._rows = lru_cache(maxsize=2)(self._read)

    def finished_digest(self, plan: ShardPlan, skip_refusals: bool = False) -> str | None:
        """Return the digest of a plan's shard, or None if images have to be generated.

        A shard whose images all exist in earlier shards is written.

        Args:
            plan: the plan.
            skip_refusals: whether a shard is finished if its missing images were refused.
        """
        digest = finished_digest(self.folder, plan, skip_refusals)
        rows = {} if digest else self.of(plan)
        if digest or len(rows) < plan.image_count:
            return digest
        return write_shard(self.folder, plan, shard_table(plan, rows))

    def of(self, plan: ShardPlan) -> dict[ImageKey, Row]:
        """Return the images of a plan that earlier runs generated; damaged shards are ignored."""
        shard_of = {
            key: name for key in plan.keys if (name := self._shard_of.get((plan.recipe, key)))
        }
        found: dict[ImageKey, Row] = {}
        for name in dict.fromkeys(shard_of.values()):
            rows = self._rows(name)
            found |= {key: rows[key] for key, n in shard_of.items() if n == name and key in rows}
        return found

    @cached_property
    def _shard_of(self) -> dict[tuple[str, ImageKey], str]:
        """The name of the shard of each image, by recipe; needed only if images are missing."""
        return {
            (shard.recipe, key): shard.name
            for shard in self.shards
            if shard.recipe
            for key in shard.keys
            if key not in shard.refused
        }

    def _read(self, name: str) -> dict[ImageKey, Row]:
        try:
            rows, _ = read_shard(self.folder, name)
        except (DamagedShard, FileNotFoundError):
            return {}
        return {(row["prompt_id"], row["seed"]): row for row in rows.to_pylist()}


def shard_table(plan: ShardPlan, rows: Mapping[ImageKey, Row]) -> pa.Table:
    """Return the images of a plan in the plan's order, in the schema ``IMAGES``.

    Planned images that are not in ``rows`` are left out.
    """
    ordered: Sequence[Row] = [rows[key] for key in plan.keys if key in rows]
    return pa.Table.from_pylist(ordered, schema=IMAGES)
