"""Schema of Infinity-2B in a pool file."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from catimage.pool.spec import GeneratorSpec


class InfinitySpec(GeneratorSpec):
    """Infinity-2B with the image tokenizer of 32 bits (CATImage paper, section 5.1).

    The published checkpoints are pickles. Each is read once, with tensors only, and saved as
    safetensors in the same folder.

    Attributes:
        size: width and height of the images in pixels, one of the resolutions of the published
            model.
        weights: a folder with the checkpoints ``infinity_2b_reg`` and ``infinity_vae_d32reg``,
            relative to the pool file, or a hub id.
        revision: commit of the hub repository; required if ``weights`` is a hub id.
        text_encoder: a folder with Flan-T5-XL, relative to the pool file, or a hub id.
        text_encoder_revision: commit of the hub repository; required if ``text_encoder`` is a hub
            id.
        guidance: scale of classifier-free guidance; 1 means no guidance.
        temperature: divisor of the logits (``tau`` in the authors' package).
    """

    overridable: ClassVar[tuple[str, ...]] = ("guidance", "temperature")
    excluded_from_definition: ClassVar[tuple[str, ...]] = (
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
