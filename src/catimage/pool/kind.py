"""Base class of generator kinds.

A kind is a type of generator, such as ``diffusers`` (pipelines of diffusers) or ``hosted`` (models
behind an HTTP API). Its class checks, counts and loads one generator of a pool.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.spec import Candidate, GeneratorSpec

Convention = Literal["full", "paper"]
"""The set of operations that are counted; see :func:`catimage.pool.costs.candidate_costs`."""

SpecT = TypeVar("SpecT", bound=GeneratorSpec)


@dataclass(frozen=True)
class CostTerms:
    """Cost of one image of a candidate, split by part of the generator.

    Attributes:
        denoiser: TFLOPs of all calls of the denoiser.
        text_encoder: TFLOPs of the text encoders.
        decoder: TFLOPs of the decoder.
        denoiser_calls: number of calls of the denoiser, each with one or two passes.
        passes: forward passes per call: 2 with classifier-free guidance, 1 without.
    """

    denoiser: float
    text_encoder: float
    decoder: float
    denoiser_calls: int
    passes: int

    @property
    def total(self) -> float:
        """TFLOPs of one image."""
        return self.denoiser + self.text_encoder + self.decoder


@dataclass(frozen=True)
class GeneratorFacts:
    """Properties of a generator that are available before it is loaded.

    Attributes:
        revision: revision or digest of the weights.
        weight_bytes: bytes of the weights in memory; None if they cannot be computed.
        memory_bytes: ``weight_bytes`` plus the largest activations of one image; None if they
            cannot be computed.
        missing: description of the files or settings that are missing on this machine; empty if
            images can be generated.
    """

    revision: str
    weight_bytes: int | None
    memory_bytes: int | None
    missing: str


class Generator(Protocol):
    """A loaded generator, which generates images from prompts and seeds."""

    def encode(self, prompts: list[str]) -> Any:
        """Encode each prompt once, for use with several candidates and seeds."""

    def generate(
        self, prompts: list[str], candidate: Candidate, seeds: list[int], encoded: Any = None
    ) -> np.ndarray:
        """Generate one image per (prompt, seed) pair.

        Args:
            prompts: n prompts.
            candidate: a candidate of this generator.
            seeds: n seeds.
            encoded: the result of :meth:`encode` for a list that contains these prompts; None
                encodes them in this call.

        Returns:
            uint8 array of shape (n, height, width, 3).
        """


SaveImage = Callable[[int, np.ndarray, float], None]
"""Receives an image: its position, its pixels (uint8, (height, width, 3)), and its seconds."""


@runtime_checkable
class PaidGenerator(Generator, Protocol):
    """A generator whose images are paid for, so that every image is saved when it arrives."""

    def request_images(
        self,
        prompts: list[str],
        candidate: Candidate,
        seeds: list[int],
        save: SaveImage,
        max_refusals: int | None = 0,
    ) -> dict[int, str]:
        """Request one image per (prompt, seed) pair, and save each image when it arrives.

        Args:
            prompts: n prompts.
            candidate: a candidate of this generator.
            seeds: n seeds.
            save: called for each image, from several threads.
            max_refusals: the number of refusals that are accepted if no other image has arrived;
                0 accepts none in any case, None accepts any number.

        Returns:
            The reasons of refused requests, by position.

        Raises:
            InputError: a request fails or is refused. Images that have arrived are saved.
        """


class GeneratorKind(ABC, Generic[SpecT]):
    """One generator of a pool before it is loaded. Each kind of generator is a subclass.

    :mod:`catimage.pool.registry` maps the names of kinds to subclasses. Methods import model
    libraries when they are called, so that reading a pool is fast. :meth:`identity` and
    :meth:`load` are required; kinds whose TFLOPs can be counted override :meth:`count_costs` too.

    Args:
        spec: the generator's entry in the pool file, an instance of :attr:`schema`.
        folder: the folder of the pool file, which relative paths start from.

    Attributes:
        schema: subclass of GeneratorSpec that validates entries of this kind.
        counted: whether TFLOPs can be counted; if not, every candidate requires the key ``cost``.
        remote: whether another computer generates the images, so that they do not depend on the
            code and the libraries on this one.
        linear_steps: whether the time of an image is a constant plus a time per step.
        verification: one sentence that names the parts of the kind that have been run and those
            that have not, printed by ``catimage pool check``; empty if all have been run.
    """

    schema: ClassVar[type[GeneratorSpec]]
    counted: ClassVar[bool] = True
    remote: ClassVar[bool] = False
    linear_steps: ClassVar[bool] = False
    verification: ClassVar[str] = ""

    def __init__(self, spec: SpecT, folder: Path) -> None:
        self.spec = spec
        self.folder = folder

    def check(self, candidate: Candidate) -> None:
        """Check the settings of a candidate, without reading files.

        Raises:
            InputError: this generator does not support the candidate.
        """

    def with_negative_prompt(self, candidate: Candidate, text: str) -> Candidate | None:
        """Return a candidate with a negative prompt in place of its own; None if it has none."""
        return None

    def prepare(self, candidates: list[Candidate], device: str) -> None:
        """Download missing files, and check everything that can be checked without loading.

        Args:
            candidates: the candidates that will be generated.
            device: a device name of torch, not ``auto``.

        Raises:
            InputError: a file is unavailable, or this generator does not support one of the
                candidates or the device.
        """
        for candidate in candidates:
            self.check(candidate)

    def check_offline(self, candidates: list[Candidate]) -> None:
        """Check everything about candidates that needs no network, for ``catimage pool check``.

        Every problem that :meth:`prepare` or the generation of images would report because of the
        pool file is reported here, unless it depends on files that are not on this machine.

        Args:
            candidates: candidates of this generator.

        Raises:
            InputError: this generator does not support one of the candidates.
        """
        for candidate in candidates:
            self.check(candidate)

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return digests of weights in local folders, and revisions of weights from the hub.

        Raises:
            InputError: the weights are not found.
        """

    def count_costs(self, candidates: list[Candidate], convention: Convention) -> list[CostTerms]:
        """Count the cost of one image of each candidate.

        Raises:
            InputError: the costs cannot be computed.
        """
        raise self.spec.error(
            "kind",
            f"the TFLOPs of a {self.spec.kind!r} generator cannot be computed. Give its candidates"
            " a 'cost'.",
        )

    def facts(self) -> GeneratorFacts:
        """Return the properties that are available before loading. Uses no network.

        Raises:
            InputError: the configuration files are not found on this machine.
        """
        return GeneratorFacts("", None, None, "")

    def sources(self) -> dict[str, str]:
        """Return the folder or hub id of all weights by key, such as ``parts.unet.weights``."""
        return {}

    def local_folders(self) -> dict[str, Path]:
        """Return the paths of the :meth:`sources` that are local folders, by key, for packaging."""
        return {
            key: self.folder / source
            for key, source in self.sources().items()
            if (self.folder / source).is_dir()
        }

    @abstractmethod
    def load(self, memory: DeviceMemory) -> Generator:
        """Load the generator on the device of ``memory``.

        Parts that another generator has loaded may be taken from ``memory.parts``.

        Raises:
            InputError: weights, classes or packages are unavailable.
        """

    def part_keys(self) -> frozenset[Hashable]:
        """Return the keys in ``memory.parts`` of the parts that generators can share."""
        return frozenset()
