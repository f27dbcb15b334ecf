"""Schema of a next-scale generator in a pool file."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from catimage.pool.spec import GeneratorSpec


class NextScaleSpec(GeneratorSpec):
    """A bitwise next-scale autoregressive model, this project's small version of Infinity.

    The key ``steps`` of a candidate is the number of scales that are sampled, from the coarsest on.

    Attributes:
        weights: folder with ``config.json`` and ``model.safetensors``, relative to the pool file.
        text: folder in diffusers' format with ``text_encoder`` (transformers' CLIP) and
            ``tokenizer``, relative to the pool file.
        guidance: scale of classifier-free guidance; there is no guidance if it is at most 1.
        temperature: divisor of the logits of the bits.
    """

    overridable: ClassVar[tuple[str, ...]] = ("guidance", "temperature")
    excluded_from_definition: ClassVar[tuple[str, ...]] = ("licence", "weights", "text")

    kind: Literal["next-scale"]
    weights: str = Field(min_length=1)
    text: str = Field(min_length=1)
    guidance: float = Field(3.0, ge=0, allow_inf_nan=False)
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
