"""Generators that report every denoising step, so that a caller can stop them or show previews."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from catimage.pool.kind import Generator
from catimage.pool.spec import Candidate


@dataclass(frozen=True)
class DenoisingStep:
    """The state of a call of a generator after one of its denoising steps.

    Attributes:
        number: number of steps that have been done (for a next-scale generator, scales).
        steps: number of steps of the call.
        decode: decodes the intermediate images at the given positions: uint8, (n, height, width,
            3). None if the generator has no intermediate images.
    """

    number: int
    steps: int
    decode: Callable[[Sequence[int]], np.ndarray] | None


StepHook = Callable[[DenoisingStep], None]
"""Called after every denoising step. An exception of the hook ends the call of the generator."""


class GenerationStopped(Exception):
    """Raised by a step hook to stop a call of a generator, which can be used again afterwards."""


@runtime_checkable
class StepwiseGenerator(Generator, Protocol):
    """A generator that calls a hook after every denoising step. The hook does not change images."""

    def generate(
        self,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        encoded: Any = None,
        on_step: StepHook | None = None,
    ) -> np.ndarray:
        """Generate images; see :meth:`Generator.generate <catimage.pool.kind.Generator.generate>`.

        Args:
            prompts, candidate, seeds, encoded: as there.
            on_step: called after every denoising step.
        """


def has_step_hook(generator: Generator) -> bool:
    """Return whether a generator accepts the argument ``on_step``."""
    return "on_step" in inspect.signature(generator.generate).parameters
