"""The entry of Infinity-2B in a pool file."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from catimage.pool.spec import GeneratorSpec


class InfinitySpec(GeneratorSpec):
    """Infinity-2B with the 32-bit tokenizer (CATImage, section 5.1).

    The published checkpoints are pickles. Each is read once, as tensors only, and saved in the same
    folder as safetensors.

    Attributes:
        size: Width and height in pixels: one of the three resolutions of the published model.
        weights: Folder (relative to the pool file) with ``infinity_2b_reg`` and
            ``infinity_vae_d32reg``, or a hub id.
        revision: Revision of the hub id ``weights``.
        text_encoder: Folder or hub id of Flan-T5-XL.
        text_encoder_revision: Revision of the hub id ``text_encoder``.
        guidance: Classifier-free guidance scale; 1 turns guidance off.
        temperature: Divides the logits (``tau`` in the authors' package).
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
