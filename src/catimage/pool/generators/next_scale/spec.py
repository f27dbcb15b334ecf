"""What the file of a pool says of a next-scale generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from catimage.pool.spec import Candidate, Convention, Facts, Generator, GeneratorSpec, Terms


class NextScaleSpec(GeneratorSpec):
    """A bitwise next-scale autoregressive model of our own make, after Infinity (Han et al. 2024,
    arXiv 2412.04431).

    ``weights`` is a folder, relative to the pool's file, with ``config.json`` and
    ``model.safetensors``; ``text`` one in diffusers' format whose ``text_encoder`` (transformers'
    CLIP) and ``tokenizer`` it reads prompts with. A candidate's ``steps`` are the scales it draws:
    all of them, or so many of the coarsest. ``guidance`` of at most 1 means no classifier-free
    guidance; ``temperature`` divides the logits of the bits.
    """

    overridable: ClassVar[tuple[str, ...]] = ("guidance", "temperature")
    unseen: ClassVar[tuple[str, ...]] = ("licence", "weights", "text")

    kind: Literal["next-scale"]
    weights: str = Field(min_length=1)
    text: str = Field(min_length=1)
    guidance: float = Field(3.0, ge=0, allow_inf_nan=False)
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)

    def prepare(self, folder: Path, candidates: list[Candidate], device: str) -> None:
        """All files are there, and no candidate wants more scales than the model has.

        Raises:
            InputError: one of the two is otherwise.
        """
        from catimage.pool.generators.next_scale.weights import (
            check_files,
            check_steps,
            read_architecture,
        )

        check_files(self, folder)
        for candidate in candidates:
            check_steps(self, candidate, read_architecture(self, folder))

    def identity(self, folder: Path) -> dict[str, Any]:
        """Its weights, text encoder and tokenizer by content."""
        from catimage.pool.generators.next_scale.weights import identity

        return identity(self, folder)

    def terms(
        self, folder: Path, candidates: list[Candidate], convention: Convention
    ) -> list[Terms]:
        """Counted on torch's meta device from the configuration files; the denoiser's term is the
        transformer's, a call a scale.
        """
        from catimage.pool.generators.next_scale.counting import count_terms

        return count_terms(self, folder, candidates, convention)

    def facts(self, folder: Path) -> Facts:
        """Counted likewise."""
        from catimage.pool.generators.next_scale.counting import facts

        return facts(self, folder)

    def sources(self) -> dict[str, str]:
        """The model's weights and the text encoder."""
        return {"weights": self.weights, "text": self.text}

    def open(self, folder: Path, device: str = "auto") -> Generator:
        """Loads model and text encoder from safetensors alone."""
        from catimage.pool.generators.next_scale.generator import NextScaleGenerator

        return NextScaleGenerator(self, folder, device)
