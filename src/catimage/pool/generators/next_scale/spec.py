"""What the file of a pool says of a next-scale generator."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from catimage.pool.spec import GeneratorSpec


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
    excluded_from_definition: ClassVar[tuple[str, ...]] = ("licence", "weights", "text")

    kind: Literal["next-scale"]
    weights: str = Field(min_length=1)
    text: str = Field(min_length=1)
    guidance: float = Field(3.0, ge=0, allow_inf_nan=False)
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
