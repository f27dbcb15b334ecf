"""Blocks of shard plans: how the images of a run are divided into shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from catimage.data.shards.plan import EarlierShard, PlannedCandidate, Prompt, ShardPlan
from catimage.errors import InputError


@dataclass(frozen=True)
class PromptBlock:
    """The plans of all shards that have the same generator and the same prompts.

    The texts of the prompts are encoded once per block.

    Attributes:
        generator: the name of the generator.
        prompts: the prompts.
        plans: one plan per candidate of the generator.
    """

    generator: str
    prompts: tuple[Prompt, ...]
    plans: tuple[ShardPlan, ...]


def plan_blocks(
    candidates: Sequence[PlannedCandidate],
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    batch_size: int,
    shard_images: int,
    earlier: Sequence[EarlierShard] = (),
) -> list[PromptBlock]:
    """Plan the images of every prompt, candidate and seed, by generator and then by prompt.

    Prompts whose images are in the same shard of an earlier run stay in one shard if this shard can
    be reused, so that new, removed or reordered prompts do not change the shards of other prompts.

    Args:
        candidates: the candidates; those of one generator must follow each other.
        prompts: the prompts, each of them once.
        seeds: the seeds of every prompt.
        batch_size: the number of images to generate at once.
        shard_images: the number of images per new shard. A shard has ``shard_images // len(seeds)``
            prompts, but at least one.
        earlier: the shards of earlier runs.

    Raises:
        InputError: a seed is listed twice.
    """
    _check_seeds(seeds)
    kept = _kept_parts(candidates, prompts, seeds, batch_size, earlier)
    planned = {identifier for part in kept for identifier, _ in part}
    others = [prompt for prompt in prompts if prompt[0] not in planned]
    size = max(1, shard_images // len(seeds))
    parts = kept + [tuple(others[start : start + size]) for start in range(0, len(others), size)]
    blocks = []
    for generator, group in groupby(candidates, lambda c: c.generator):
        candidates_of_generator = list(group)
        for part in parts:
            plans = (_plan(c, part, seeds, batch_size) for c in candidates_of_generator)
            blocks.append(PromptBlock(generator, part, tuple(plans)))
    return blocks


def _check_seeds(seeds: Sequence[int]) -> None:
    repeated = [seed for seed, count in Counter(seeds).items() if count > 1]
    if repeated:
        raise InputError(
            f"params.yaml: generate.seeds: the seed {repeated[0]} is listed twice. Remove one."
        )


def _plan(
    candidate: PlannedCandidate, prompts: Sequence[Prompt], seeds: Sequence[int], batch_size: int
) -> ShardPlan:
    return ShardPlan(
        candidate.candidate,
        candidate.definition,
        candidate.steps,
        tuple(prompts),
        tuple(seeds),
        batch_size,
        code=candidate.code,
        remote=candidate.remote,
    )


def _kept_parts(
    candidates: Sequence[PlannedCandidate],
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    batch_size: int,
    earlier: Sequence[EarlierShard],
) -> list[tuple[Prompt, ...]]:
    """Return the prompts of each earlier shard that can be reused, in the order of ``prompts``.

    A prompt is in at most one part. If shards share prompts, as those of a candidate that was added
    for some of the prompts, the largest shard is kept.
    """
    texts, by_name = dict(prompts), {c.candidate: c for c in candidates}
    parts = []
    for shard in sorted(earlier, key=lambda shard: (-len(shard.keys), shard.name)):
        identifiers = list(dict.fromkeys(identifier for identifier, _ in shard.keys))
        if shard.candidate in by_name and identifiers and texts.keys() >= set(identifiers):
            part = tuple((identifier, texts[identifier]) for identifier in identifiers)
            if _plan(by_name[shard.candidate], part, seeds, batch_size).name == shard.name:
                parts.append(part)
                for identifier in identifiers:
                    del texts[identifier]
    positions = {identifier: i for i, (identifier, _) in enumerate(prompts)}
    return sorted(parts, key=lambda part: positions[part[0][0]])
