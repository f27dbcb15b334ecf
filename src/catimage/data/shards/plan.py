"""Shard plans: the definitions of the images in a shard, created before the images are generated.

A shard file is named after the hash of its plan, so that a finished shard is reused if and only if
nothing that its images depend on has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

from catimage.errors import InputError

PROTOCOL = 1
"""Part of every plan's hash. Increase it when a change of the code changes the images or
the files of unchanged plans."""

Prompt = tuple[str, str]
"""The ``prompt_id`` and the text of a prompt."""

ImageKey = tuple[str, int]
"""The ``prompt_id`` and the seed of an image of a candidate."""


@dataclass(frozen=True)
class PlannedCandidate:
    """A candidate for which images are planned.

    Attributes:
        candidate: the name of the candidate.
        generator: the name of the generator.
        steps: the number of denoising steps.
        definition: all other properties that the images depend on: the settings of the generator
            and of the candidate, and digests of the weights.
        code: the digest of the code that generates the images, and the versions of its libraries;
            empty for images that another computer generates.
    """

    candidate: str
    generator: str
    steps: int
    definition: dict[str, Any]
    code: Mapping[str, str] = field(default_factory=dict)


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
        code: see :class:`PlannedCandidate`.
    """

    candidate: str
    definition: dict[str, Any]
    steps: int
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    batch_size: int
    encoding: str = "png"
    code: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of the plan."""
        keys = ("candidate", "definition", "steps", "prompts", "seeds", "encoding")
        plan = {"protocol": PROTOCOL, "batch": self.batch_size, **{k: vars(self)[k] for k in keys}}
        return _digest(plan | ({"code": dict(self.code)} if self.code else {}))

    @cached_property
    def recipe(self) -> str:
        """A hash of everything that an image depends on except its prompt and its seed.

        An image of another shard with the same recipe can be copied. Shard files contain it.
        """
        settings = [self.definition, self.steps, self.batch_size, self.encoding, dict(self.code)]
        return _digest([PROTOCOL, self.candidate, *settings])

    @property
    def image_count(self) -> int:
        """The number of images."""
        return len(self.prompts) * len(self.seeds)

    @property
    def keys(self) -> list[ImageKey]:
        """The images in their order in the shard. All seeds of a prompt follow each other."""
        return [(identifier, seed) for identifier, _ in self.prompts for seed in self.seeds]

    def batches(self, omitted: Collection[ImageKey] = ()) -> Iterator[list[tuple[str, str, int]]]:
        """Yield batches of ``(prompt_id, prompt, seed)``; the last one may be smaller.

        Args:
            omitted: images that are not in any batch.
        """
        texts = dict(self.prompts)
        rows = [(key[0], texts[key[0]], key[1]) for key in self.keys if key not in omitted]
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size]


@dataclass(frozen=True)
class EarlierShard:
    """A shard file of an earlier run.

    Attributes:
        name: the name of the shard.
        candidate: the name of the candidate.
        recipe: see :attr:`ShardPlan.recipe`; empty if the file does not contain it.
        code: see :class:`PlannedCandidate`; empty if the file does not contain it.
        keys: the planned images, in order.
        refused: the planned images that were refused.
    """

    name: str
    candidate: str
    recipe: str
    keys: tuple[ImageKey, ...]
    refused: frozenset[ImageKey] = frozenset()
    code: Mapping[str, str] = field(default_factory=dict)


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


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


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
