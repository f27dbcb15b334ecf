"""Messages about existing images that are generated again, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from catimage.data.shards.plan import EarlierShard, ImageKey, ShardPlan
from catimage.pool.image_code import code_changes


def print_regenerated(plans: Iterable[ShardPlan], earlier: Sequence[EarlierShard]) -> None:
    """Print how many images are generated again because code or libraries have changed.

    Args:
        plans: the plans of the shards that will be generated.
        earlier: the shards of earlier runs.
    """
    by_image: dict[tuple[str, ImageKey], EarlierShard] = {
        (shard.candidate, key): shard for shard in earlier if shard.code for key in shard.keys
    }
    counts = Counter[tuple[str, str]]()
    for plan in plans:
        for key in plan.keys:
            shard = by_image.get((plan.candidate, key))
            if shard and (changes := code_changes(shard.code, plan.code)):
                counts[plan.candidate, changes] += 1
    for (candidate, changes), count in counts.items():
        print(
            f"generate: {count:,} images of {candidate} are generated again: {changes}", flush=True
        )
