"""A generator of noise in place of a diffusion model, for tests of the files of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from catimage.pool.generators.diffusion.kind import DiffusersKind
from catimage.pool.spec import Candidate

Generated = list[tuple[str, str, int]]
"""The prompt, the candidate and the seed of each image, in the order of generation."""


class NoiseGenerator:
    """A generator of images of 64 x 64 pixels that depend on the prompt, the steps and the seed."""

    def __init__(self, generated: Generated) -> None:
        self._generated = generated

    def encode(self, prompts: list[str]) -> None:
        """Encode nothing."""

    def generate(
        self, prompts: list[str], candidate: Candidate, seeds: list[int], encoded: Any = None
    ) -> NDArray[np.uint8]:
        rows = list(zip(prompts, seeds, strict=True))
        self._generated.extend((prompt, candidate.candidate, seed) for prompt, seed in rows)
        random = (np.random.default_rng([s, candidate.steps, *p.encode()]) for p, s in rows)
        return np.stack([r.integers(0, 256, (64, 64, 3), np.uint8) for r in random])


def generate_noise(monkeypatch: pytest.MonkeyPatch) -> Generated:
    """Replace the diffusion models; return the list of images that are generated from now on."""
    generated: Generated = []
    monkeypatch.setattr(DiffusersKind, "load", lambda *_: NoiseGenerator(generated))
    return generated
