"""Shard plans: the definitions of the images in a shard, created before the images are generated.

A shard file is named after the hash of its plan, so that a finished shard is reused if and only if
nothing that its images depend on has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

PROTOCOL = 1
"""Part of every plan's hash. Increase it when a change of the code changes the images or
the files of unchanged plans."""

REMOTE_BATCH_SIZE = 64
"""The batch size in the hash of every plan of images that another computer generates, whatever the
batch size of the run is. It is the default of ``generate.batch_size``, so that images that were
paid for before batch sizes were left out remain valid."""

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
        remote: whether another computer generates the images, so that they do not depend on the
            batch size. They are usually paid for.
    """

    candidate: str
    generator: str
    steps: int
    definition: dict[str, Any]
    code: Mapping[str, str] = field(default_factory=dict)
    remote: bool = False


@dataclass(frozen=True)
class ShardPlan:
    """The images of one shard: consecutive prompts of one candidate, with all seeds.

    The batch size is part of the plan because floating-point sums depend on it: a run that was
    interrupted repeats the same batches and generates the same images. Images that another computer
    generates do not depend on it.

    Attributes:
        candidate: the name of the candidate.
        definition: see :class:`PlannedCandidate`.
        steps: the number of denoising steps.
        prompts: the prompts.
        seeds: the seeds of every prompt.
        batch_size: the number of images per batch; the first batch begins with the first image.
        encoding: the format of the encoded images.
        code: see :class:`PlannedCandidate`.
        remote: see :class:`PlannedCandidate`.
    """

    candidate: str
    definition: dict[str, Any]
    steps: int
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    batch_size: int
    encoding: str = "png"
    code: Mapping[str, str] = field(default_factory=dict)
    remote: bool = False

    @cached_property
    def name(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of the plan."""
        keys = ("candidate", "definition", "steps", "prompts", "seeds", "encoding")
        plan = {
            "protocol": PROTOCOL,
            "batch": self._hashed_batch_size,
            **{k: vars(self)[k] for k in keys},
        }
        return _digest(plan | ({"code": dict(self.code)} if self.code else {}))

    @cached_property
    def recipe(self) -> str:
        """A hash of everything that an image depends on except its prompt and its seed.

        An image of another shard with the same recipe can be copied. Shard files contain it.
        """
        batch_size = self._hashed_batch_size
        settings = [self.definition, self.steps, batch_size, self.encoding, dict(self.code)]
        return _digest([PROTOCOL, self.candidate, *settings])

    @property
    def _hashed_batch_size(self) -> int:
        return REMOTE_BATCH_SIZE if self.remote else self.batch_size

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
        remote: see :class:`PlannedCandidate`.
    """

    name: str
    candidate: str
    recipe: str
    keys: tuple[ImageKey, ...]
    refused: frozenset[ImageKey] = frozenset()
    code: Mapping[str, str] = field(default_factory=dict)
    remote: bool = False

    @property
    def images(self) -> set[tuple[str, ImageKey]]:
        """The images that exist, each with the recipe of the shard."""
        return {(self.recipe, key) for key in self.keys if key not in self.refused}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
