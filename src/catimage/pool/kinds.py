"""The kinds of generators there are. A further kind is a further line here, a class, and its keys in ``GeneratorSpec``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from catimage.pool.pool import GeneratorSpec

KINDS: Mapping[str, str] = MappingProxyType({"diffusers": "catimage.pool.diffusion:DiffusionGenerator"})


class Generator(Protocol):
    """A loaded generator."""

    def encode(self, prompts: list[str]) -> Any:
        """Encodes each prompt once, for any number of candidates and seeds."""

    def generate(self, prompts: list[str], steps: int, seeds: list[int], encoded: Any = None) -> np.ndarray:
        """One image a (prompt, seed) pair: uint8 (n, h, w, 3)."""


def open_generator(spec: GeneratorSpec, folder: Path, device: str = "auto") -> Generator:
    """Loads the generator of ``spec``; ``folder`` is its pool's.

    Raises:
        InputError: its weights, pipeline, scheduler or device are not to be had.
    """
    module, name = KINDS[spec.kind].split(":")
    generator: Generator = getattr(import_module(module), name)(spec, folder, device)
    return generator
