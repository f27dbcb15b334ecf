"""Shard plans: the definitions of the images in a shard, created before the images are generated.

A shard file is named after the hash of its plan, so that a finished shard is reused if and only if
nothing that its images depend on has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from catimage.errors import InputError

PROTOCOL = 1
"""Part of every plan's hash. Increase it when a change of the code changes the images or
the files of unchanged plans."""

Prompt = tuple[str, str]
"""The ``prompt_id`` and the text of a prompt."""


@dataclass(frozen=True)
class PlannedCandidate:
    """A candidate for which images are planned.

    Attributes:
        candidate: the name of the candidate.
        generator: the name of the generator.
        steps: the number of denoising steps.
        definition: all other properties that the images depend on: the settings of the generator
            and of the candidate, and digests of the weights.
    """

    candidate: str
    generator: str
    steps: int
    definition: dict[str, Any]


@dataclass(frozen=True)
class ShardPlan:
    """The images of one shard: consecutive prompts of one candidate, with all seeds.

    The batch size is part of the plan because floating-point sums depend on it: a run that was
    interrupted repeats the same batches and generates the same images.

    Attributes:
        candidate: the name of the candidate.
        definition: see :class:`PlannedCandidate`.
        steps: the number of denoising steps.
        prompts: the prompts.
        seeds: the seeds of every prompt.
        batch_size: the number of images per batch; the first batch begins with the first image.
        encoding: the format of the encoded images.
    """

    candidate: str
    definition: dict[str, Any]
    steps: int
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    batch_size: int
    encoding: str = "png"

    @cached_property
    def name(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of the plan."""
        plan = {
            "protocol": PROTOCOL,
            "candidate": self.candidate,
            "definition": self.definition,
            "steps": self.steps,
            "prompts": self.prompts,
            "seeds": self.seeds,
            "batch": self.batch_size,
            "encoding": self.encoding,
        }
        text = json.dumps(plan, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def image_count(self) -> int:
        """The number of images."""
        return len(self.prompts) * len(self.seeds)

    def batches(self) -> Iterator[list[tuple[str, str, int]]]:
        """Yield batches of ``(prompt_id, prompt, seed)``; the last one may be smaller.

        All seeds of a prompt follow each other.
        """
        rows = [
            (identifier, text, seed) for identifier, text in self.prompts for seed in self.seeds
        ]
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size]


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
) -> list[PromptBlock]:
    """Plan the images of every prompt, candidate and seed, by generator and then by prompt.

    Args:
        candidates: the candidates; those of one generator must follow each other.
        prompts: the prompts. Prompts added at the end leave the plans of full shards unchanged.
        seeds: the seeds of every prompt.
        batch_size: the number of images to generate at once.
        shard_images: the number of images per shard. A shard has ``shard_images // len(seeds)``
            prompts, but at least one.

    Raises:
        InputError: a seed is listed twice.
    """
    repeated = [seed for seed in seeds if list(seeds).count(seed) > 1]
    if repeated:
        raise InputError(
            f"params.yaml: generate.seeds: the seed {repeated[0]} is listed twice. Remove one."
        )
    size = max(1, shard_images // len(seeds))
    parts = [tuple(prompts[start : start + size]) for start in range(0, len(prompts), size)]
    blocks = []
    for generator, group in groupby(candidates, lambda c: c.generator):
        candidates_of_generator = list(group)
        for part in parts:
            plans = (
                ShardPlan(c.candidate, c.definition, c.steps, part, tuple(seeds), batch_size)
                for c in candidates_of_generator
            )
            blocks.append(PromptBlock(generator, part, tuple(plans)))
    return blocks
