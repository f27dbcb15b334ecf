"""What the file of a pool says of Infinity-2B."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from catimage.pool.spec import GeneratorSpec


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
