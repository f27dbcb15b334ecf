"""What the file of a pool says of Infinity-2B."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from catimage.errors import InputError
from catimage.pool.spec import Candidate, Convention, Facts, Generator, GeneratorSpec, Terms


class InfinitySpec(GeneratorSpec):
    """Infinity-2B with its tokenizer of 32 bits (CATImage 5.1) at one of the three resolutions that
    its authors trained.

    ``weights`` is a folder (relative to the pool's file) with ``infinity_2b_reg`` and
    ``infinity_vae_d32reg``, or a hub id with a ``revision``; ``text_encoder`` is a folder or hub id
    of Flan-T5-XL. The checkpoints are published as pickles: each is read once, as tensors alone,
    and written as safetensors beside itself. ``guidance`` of 1 means none; ``temperature`` divides
    the logits (the authors' ``tau``). Both may be a candidate's own.
    """

    overridable: ClassVar[tuple[str, ...]] = ("guidance", "temperature")
    unseen: ClassVar[tuple[str, ...]] = (
        "licence",
        "weights",
        "revision",
        "text_encoder",
        "text_encoder_revision",
    )

    kind: Literal["infinity"]
    size: Literal[256, 512, 1024] = 1024
    weights: str = Field("FoundationVision/Infinity", min_length=1)
    revision: str | None = None
    text_encoder: str = Field("google/flan-t5-xl", min_length=1)
    text_encoder_revision: str | None = None
    guidance: float = Field(3.0, ge=1, allow_inf_nan=False)
    temperature: float = Field(0.5, gt=0, allow_inf_nan=False)

    @property
    def guided(self) -> bool:
        """Whether every scale takes two passes."""
        return self.guidance != 1

    def check(self, candidate: Candidate) -> None:
        """Its scales follow from its size.

        Raises:
            InputError: the candidate says a number of steps.
        """
        if candidate.steps != 1:
            scales = "Infinity's scales follow from its size"
            raise InputError(
                f"{self._where}: the candidate {candidate.candidate!r} says 'steps', but {scales};"
                " leave it out."
            )

    def identity(self, folder: Path) -> dict[str, Any]:
        """Its weights by content (hub ids: by revision)."""
        from catimage.pool.generators.infinity.weights import identity

        return identity(self, folder)

    def terms(
        self, folder: Path, candidates: list[Candidate], convention: Convention
    ) -> list[Terms]:
        """Counted on torch's meta device; see :mod:`catimage.pool.generators.infinity.counting`."""
        from catimage.pool.generators.infinity.counting import count_terms

        return [count_terms(self.size, self.settled(c).guided, convention) for c in candidates]

    def facts(self, folder: Path) -> Facts:
        """Memory with blocks and text encoder in half precision, and keys and values of every
        scale.
        """
        from catimage.pool.generators.infinity.counting import memory
        from catimage.pool.generators.infinity.weights import missing

        weights, activations = memory(self.size, self.guided)
        return Facts(self.revision or "", weights, weights + activations, missing(self, folder))

    def sources(self) -> dict[str, str]:
        """The model's weights and the text encoder."""
        return {"weights": self.weights, "text_encoder": self.text_encoder}

    def prepare(self, folder: Path, candidates: list[Candidate], device: str) -> None:
        """Fetches and converts the checkpoints.

        Raises:
            InputError: the official package or the weights are not there, or the device is not
                CUDA, for which its attention is written.
        """
        from catimage.pool.generators.infinity.generator import official
        from catimage.pool.generators.infinity.weights import checkpoints

        super().prepare(folder, candidates, device)
        official(self)
        if not device.startswith("cuda"):
            raise self.error(
                "kind",
                f"the official package runs on CUDA alone, not on {device!r}; leave its candidates"
                " out, or use a GPU.",
            )
        checkpoints(self, folder)

    def open(self, folder: Path, device: str = "auto") -> Generator:
        """Loads it with the official package."""
        from catimage.pool.generators.infinity.generator import InfinityGenerator

        return InfinityGenerator(self, folder, device)
