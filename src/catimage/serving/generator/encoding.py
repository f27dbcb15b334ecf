"""Encoded prompts: each prompt is encoded once per task, also if its images are in many batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from catimage.pool.kind import Generator
from catimage.serving.generator.fair_queue import QueuedTask


def encode_prompts(generator: Generator, owners: Sequence[QueuedTask]) -> Any:
    """Return the encoded prompts of tasks, and store them in the tasks.

    New prompts are encoded in one call. If a generator's encoded prompts cannot be merged (they
    have no class method ``merge``), the prompts of a mixed batch are encoded again.

    Args:
        generator: the generator.
        owners: the tasks of a batch.
    """
    new = [owner for owner in owners if owner.encoded is None]
    if new:
        encoded = generator.encode(list(dict.fromkeys(owner.task.prompt for owner in new)))
        for owner in new:
            owner.encoded = encoded
    parts: list[Any] = list({id(owner.encoded): owner.encoded for owner in owners}.values())
    if len(parts) == 1:
        return parts[0]
    merge = getattr(type(parts[0]), "merge", None)
    if merge is None:
        return generator.encode(list(dict.fromkeys(owner.task.prompt for owner in owners)))
    return merge(parts)
