"""What a shard holds is decided before it is made, and the shard is named after the decision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from catimage.errors import InputError
from catimage.pool.pool import Pool

PROTOCOL = 1
"""Raised when the same plan would come to be made into other images or another file layout."""

Prompt = tuple[str, str]
"""``prompt_id`` and text."""


@dataclass(frozen=True)
class ShardPlan:
    """Consecutive prompts of one candidate with all seeds, made in batches of a fixed size from the
    first row on.

    Fixed batches matter: floating-point sums depend on the size of the batch they are taken in, so
    a run that was interrupted repeats the very batches of an undisturbed one and comes to the same
    images.

    ``definition`` is the generator's, with the candidate's settings
    (:meth:`catimage.pool.spec.GeneratorSpec.definition`).
    """

    candidate: str
    definition: dict[str, Any]
    steps: int
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    batch: int
    encoding: str = "png"

    @cached_property
    def name(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of the plan."""
        plan = {
            "protocol": PROTOCOL,
            **{field: getattr(self, field) for field in self.__dataclass_fields__},
        }
        return hashlib.sha256(
            json.dumps(plan, sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest()[:32]

    @property
    def images(self) -> int:
        """How many images it plans."""
        return len(self.prompts) * len(self.seeds)

    def batches(self) -> Iterator[list[tuple[str, str, int]]]:
        """(prompt_id, prompt, seed) of every image, prompts outermost, cut into batches; the last
        may be smaller.
        """
        rows = [
            (identifier, text, seed) for identifier, text in self.prompts for seed in self.seeds
        ]
        for start in range(0, len(rows), self.batch):
            yield rows[start : start + self.batch]


@dataclass(frozen=True)
class Block:
    """The shards of one generator over the same prompts: their text is encoded once for all of
    them.
    """

    generator: str
    prompts: tuple[Prompt, ...]
    plans: tuple[ShardPlan, ...]


def plan_blocks(
    pool: Pool,
    definitions: dict[str, dict[str, Any]],
    prompts: list[Prompt],
    seeds: list[int],
    batch: int,
    shard_images: int,
) -> list[Block]:
    """Every prompt x candidate x seed of the pool, cut into shards; generator by generator, in the
    pool's order.

    ``definitions`` holds the definition of each candidate.

    Prompts are cut in the order they come in, ``shard_images // len(seeds)`` of them (at least one)
    to a shard. A table that grows at its end keeps all of its full shards.

    Raises:
        InputError: a seed is listed twice.
    """
    if len(set(seeds)) < len(seeds):
        twice = next(s for s in seeds if seeds.count(s) > 1)
        raise InputError(
            f"params.yaml: generate.seeds lists the seed {twice} twice; name each once."
        )
    size = max(1, shard_images // len(seeds))
    cuts = [tuple(prompts[i : i + size]) for i in range(0, len(prompts), size)]
    blocks = []
    for generator in pool.generators:
        own = pool.candidates_of(generator)
        for cut in cuts if own else []:
            plans = tuple(
                ShardPlan(c.candidate, definitions[c.candidate], c.steps, cut, tuple(seeds), batch)
                for c in own
            )
            blocks.append(Block(generator, cut, plans))
    return blocks
