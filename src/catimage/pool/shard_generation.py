"""Generates the images of shards with a loaded generator."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from catimage.data.shards.blocks import PromptBlock
from catimage.data.shards.plan import ImageKey, ShardPlan
from catimage.data.shards.reuse import EarlierImages, Row, shard_table
from catimage.data.shards.store import encode_image, write_image, write_shard
from catimage.execution.local import Progress
from catimage.pool.kind import Generator, PaidGenerator
from catimage.pool.refusal import RefusedImages
from catimage.pool.spec import Candidate, Pool

MAX_REFUSALS = 100
"""The number of refused images of a shard without any other image, after which a run stops."""


@dataclass
class _Images:
    """The images of a shard, and the reasons of refused images."""

    rows: dict[ImageKey, Row]
    refusals: dict[ImageKey, str] = field(default_factory=dict)


def write_block(
    pool: Pool,
    generator: Generator,
    earlier: EarlierImages,
    skip_refusals: bool,
    block: PromptBlock,
    progress: Progress,
) -> dict[str, str]:
    """Write the shards of a block: copy the images of earlier shards, and generate the others.

    Args:
        pool: the pool.
        generator: the loaded generator of the block.
        earlier: the images of earlier shards.
        skip_refusals: whether refused images are left out; otherwise they are an error.
        block: the block.
        progress: called with the number of finished images.

    Returns:
        The digests of the shards, by name of the shard.

    Raises:
        InputError: the generator fails, or refuses an image that is not to be left out.
    """
    encoded = generator.encode([text for _, text in block.prompts])
    digests = {}
    for plan in block.plans:
        candidate = pool.candidate(plan.candidate)
        images = _Images(earlier.of(plan))
        progress(len(images.rows))
        if isinstance(generator, PaidGenerator):
            _request(generator, candidate, plan, earlier, images, skip_refusals, progress)
        else:
            _generate(generator, candidate, plan, encoded, images, skip_refusals, progress)
        for reason in images.refusals.values():
            print(f"generate: no image: {reason}", flush=True)
        table = shard_table(plan, images.rows)
        digests[plan.name] = write_shard(earlier.folder, plan, table, images.refusals)
    return digests


def _generate(
    generator: Generator,
    candidate: Candidate,
    plan: ShardPlan,
    encoded: Any,
    images: _Images,
    skip_refusals: bool,
    progress: Progress,
) -> None:
    """Add the images of a plan that ``images`` does not contain, batch by batch."""
    for plan_batch in plan.batches(images.rows.keys()):
        texts, seeds = [row[1] for row in plan_batch], [row[2] for row in plan_batch]
        start, reasons = time.perf_counter(), dict[int, str]()
        generated: Mapping[int, np.ndarray]
        try:
            generated = dict(enumerate(generator.generate(texts, candidate, seeds, encoded)))
        except RefusedImages as error:
            if not skip_refusals:
                raise
            generated, reasons = error.images, dict(error.reasons)
        seconds = (time.perf_counter() - start) / len(plan_batch)
        for i, image in generated.items():
            identifier, _, seed = plan_batch[i]
            images.rows[identifier, seed] = _row(plan, identifier, seed, image, seconds)
        images.refusals |= {(plan_batch[i][0], plan_batch[i][2]): r for i, r in reasons.items()}
        progress(len(plan_batch))


def _request(
    generator: PaidGenerator,
    candidate: Candidate,
    plan: ShardPlan,
    earlier: EarlierImages,
    images: _Images,
    skip_refusals: bool,
    progress: Progress,
) -> None:
    """Add the paid images of a plan that ``images`` does not contain.

    Each image is written when it arrives, so that a run that fails or is killed loses none.
    """
    missing = _rows(plan, images.rows.keys())
    lock = threading.Lock()

    def save(position: int, image: np.ndarray, seconds: float) -> None:
        identifier, _, seed = missing[position]
        row = _row(plan, identifier, seed, image, seconds)
        write_image(earlier.folder, plan, row)
        with lock:
            images.rows[identifier, seed] = row
            progress(1)

    reasons = generator.request_images(
        [text for _, text, _ in missing],
        candidate,
        [seed for _, _, seed in missing],
        save,
        max_refusals=0 if not skip_refusals else None if images.rows else MAX_REFUSALS,
    )
    images.refusals |= {(missing[i][0], missing[i][2]): r for i, r in sorted(reasons.items())}
    progress(len(reasons))


def _rows(plan: ShardPlan, omitted: Collection[ImageKey]) -> list[tuple[str, str, int]]:
    return [row for plan_batch in plan.batches(omitted) for row in plan_batch]


def _row(
    plan: ShardPlan, identifier: str, seed: int, image: np.ndarray, seconds: float
) -> dict[str, Any]:
    return {
        "prompt_id": identifier,
        "candidate": plan.candidate,
        "seed": seed,
        "image": encode_image(image),
        "seconds": seconds,
    }
