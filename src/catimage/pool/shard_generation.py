"""Generates the images of shards with a loaded generator."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from catimage.data.shards.plan import ImageKey, PromptBlock, ShardPlan
from catimage.data.shards.reuse import EarlierImages, Row, shard_table
from catimage.data.shards.store import encode_image, write_shard
from catimage.execution.local import Progress
from catimage.pool.kind import Generator
from catimage.pool.spec import Candidate, Pool


def write_block(
    pool: Pool, generator: Generator, earlier: EarlierImages, block: PromptBlock, progress: Progress
) -> dict[str, str]:
    """Write the shards of a block: copy the images of earlier shards, and generate the others.

    Returns:
        The digests of the shards, by name of the shard.
    """
    encoded = generator.encode([text for _, text in block.prompts])
    digests = {}
    for plan in block.plans:
        candidate = pool.candidate(plan.candidate)
        rows = earlier.of(plan)
        progress(len(rows))
        rows |= _generate_images(generator, candidate, plan, encoded, rows.keys(), progress)
        digests[plan.name] = write_shard(earlier.folder, plan, shard_table(plan, rows))
    return digests


def _generate_images(
    generator: Generator,
    candidate: Candidate,
    plan: ShardPlan,
    encoded: Any,
    omitted: Collection[ImageKey],
    progress: Progress,
) -> dict[ImageKey, Row]:
    """Generate the images of a plan that are not in ``omitted``."""
    rows: dict[ImageKey, Row] = {}
    for plan_batch in plan.batches(omitted):
        identifiers, texts, seeds = (list(column) for column in zip(*plan_batch, strict=True))
        start = time.perf_counter()
        images = generator.generate(texts, candidate, seeds, encoded)
        seconds = (time.perf_counter() - start) / len(plan_batch)
        for identifier, seed, image in zip(identifiers, seeds, images, strict=True):
            rows[identifier, seed] = {
                "prompt_id": identifier,
                "candidate": plan.candidate,
                "seed": seed,
                "image": encode_image(image),
                "seconds": seconds,
            }
        progress(len(plan_batch))
    return rows
