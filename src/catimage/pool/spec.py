"""What the file of a pool says of one candidate and of one generator, and what every kind of
generator can do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from catimage.errors import InputError

if TYPE_CHECKING:
    from catimage.pool.device_memory import Workshop

Convention = Literal["full", "paper"]


class Section(BaseModel):
    """A part of a pool's file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Candidate(BaseModel):
    """One choice m: a generator, a number of steps, and what it sets otherwise than its generator.

    An explicit ``cost`` is in ``unit``, for one image. ``settings`` holds the keys beyond the named
    ones: which of them there may be is the generator's to say (:attr:`GeneratorSpec.overridable`).
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    candidate: str = Field(min_length=1)
    generator: str
    steps: int = Field(1, ge=1)
    cost: float | None = Field(None, ge=0, allow_inf_nan=False)
    unit: Literal["tflops", "seconds", "usd", "wh"] = "tflops"

    @property
    def settings(self) -> dict[str, Any]:
        """The generator's settings that this candidate has otherwise."""
        return dict(self.model_extra or {})

    def row(self) -> dict[str, Any]:
        """Its columns in the candidates table."""
        return {
            "candidate": self.candidate,
            "generator": self.generator,
            "steps": self.steps,
            "cost": self.cost,
            "unit": self.unit,
        }


@dataclass(frozen=True)
class Terms:
    """What one image of a candidate costs in TFLOPs, part by part. ``passes`` is 2 where guidance
    doubles every call.
    """

    denoiser: float
    text_encoder: float
    decoder: float
    denoiser_calls: int
    passes: int


@dataclass(frozen=True)
class Facts:
    """What is known of a generator before it is loaded.

    ``weight_bytes`` and ``memory_bytes`` (weights as loaded, and the largest activations of one
    image) are None where nothing can be counted; ``missing`` says what is not at hand, and is empty
    where a run can start now.
    """

    revision: str
    weight_bytes: int | None
    memory_bytes: int | None
    missing: str


class Generator(Protocol):
    """A loaded generator."""

    def encode(self, prompts: list[str]) -> Any:
        """Encodes each prompt once, for any number of candidates and seeds."""

    def generate(
        self, prompts: list[str], candidate: Candidate, seeds: list[int], encoded: Any = None
    ) -> np.ndarray:
        """One image a (prompt, seed) pair: uint8 (n, h, w, 3)."""


class GeneratorSpec(Section, ABC):
    """One generator, of any kind. Candidates share it.

    ``size`` is the images' width and height in pixels. A kind is a subclass in
    :data:`catimage.pool.registry.KINDS`; its methods import what they need when they are called, so
    that reading a pool is cheap.
    """

    overridable: ClassVar[tuple[str, ...]] = ()
    """Settings that a candidate may have otherwise than its generator."""
    unseen: ClassVar[tuple[str, ...]] = ("licence",)
    """Keys that say nothing of the images, or whose meaning :meth:`identity` gives."""
    counted: ClassVar[bool] = True
    """Whether its TFLOPs can be counted; where not, every candidate has an explicit cost."""

    kind: str
    size: int = Field(ge=8, multiple_of=8)
    licence: str = ""
    _where: str = PrivateAttr("pool")

    def error(self, key: str, message: str) -> InputError:
        """An error that names the file and the key of this generator; ``message`` ends the
        sentence.
        """
        return InputError(f"{self._where}.{key}: {message}")

    def settled(self, candidate: Candidate) -> Self:
        """This generator with the settings of one of its candidates.

        Raises:
            ValidationError: a setting has a value that it cannot have.
        """
        if not candidate.settings:
            return self
        made = type(self).model_validate({**self.model_dump(), **candidate.settings})
        made._where = self._where
        return made

    def check(self, candidate: Candidate) -> None:
        """Looks at what a candidate asks for, without loading anything.

        Raises:
            InputError: this generator cannot make it.
        """

    def definition(self, candidate: Candidate, identity: dict[str, Any]) -> dict[str, Any]:
        """What decides a candidate's images beside its steps, for the plans of shards: settings,
        and :meth:`identity`.

        Where the weights lie is left out, so that a copied workspace keeps its shards.
        """
        settings = self.settled(candidate).model_dump(
            mode="json", exclude=set(self.unseen), exclude_defaults=True
        )
        return {"kind": self.kind, **settings, **identity}

    @abstractmethod
    def identity(self, folder: Path) -> dict[str, Any]:
        """What identifies its weights, by content or by revision; ``folder`` is its pool's.

        Raises:
            InputError: the weights are not there.
        """

    @abstractmethod
    def terms(
        self, folder: Path, candidates: list[Candidate], convention: Convention
    ) -> list[Terms]:
        """What an image of each of its ``candidates`` costs.

        Raises:
            InputError: there is no way to count it; the candidates need an explicit cost.
        """

    @abstractmethod
    def facts(self, folder: Path) -> Facts:
        """What is known of it before it is loaded; asks no network."""

    def sources(self) -> dict[str, str]:
        """Where its weights come from, folders and hub ids, by the key that names them
        (``weights``, ``parts.unet.weights``).
        """
        return {}

    def local_folders(self, folder: Path) -> dict[str, Path]:
        """Those of its :meth:`sources` that are folders on this machine, for a Bento to carry."""
        return {
            key: folder / place
            for key, place in self.sources().items()
            if (folder / place).is_dir()
        }

    def prepare(self, folder: Path, candidates: list[Candidate], device: str) -> None:
        """Fetches what is not on this machine, and checks all that can be known before a long run
        without loading anything.

        Raises:
            InputError: it cannot make one of the ``candidates``, or not on this ``device`` (not
                ``auto``, but a name of torch's).
        """
        for candidate in candidates:
            self.check(candidate)

    @abstractmethod
    def open(self, folder: Path, device: str = "auto") -> Generator:
        """Loads it, by itself.

        Raises:
            InputError: its weights, classes or device are not to be had.
        """

    def open_in(self, workshop: Workshop, folder: Path) -> Generator:
        """Loads it beside others, whose parts it shares where it can; a kind that shares none needs
        only :meth:`open`.

        Raises:
            InputError: its weights or classes are not to be had.
        """
        return self.open(folder, workshop.device)

    def part_keys(self, folder: Path) -> frozenset[Hashable]:
        """What identifies the parts that it has in a workshop."""
        return frozenset()
