"""The whole model: its shape as ``config.json`` tells it, its weights, and how it samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import nn

from catimage.pool.generators.next_scale.quantiser import codes, downscale, upscale
from catimage.pool.generators.next_scale.tokenizer import GROUPS, PATCH, Decoder
from catimage.pool.generators.next_scale.transformer import (
    KeysValues,
    NextScaleTransformer,
    tokens_of,
)
from catimage.pool.spec import PoolSection


class Architecture(PoolSection):
    """Shape of a model: ``bits`` of a position, sides of the ``scales``, and the layers of
    transformer and decoder.

    ``decoder_widths`` are the decoder's channels at 1, 2 and 4 times the finest scale,
    ``text_width`` those of the text encoder.
    """

    bits: int = Field(ge=1)
    scales: tuple[int, ...] = Field(min_length=1)
    width: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    expansion: int = Field(ge=1)
    text_width: int = Field(ge=1)
    decoder_widths: tuple[int, int, int]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if list(self.scales) != sorted(set(self.scales)) or self.scales[0] < 1:
            raise ValueError("scales must be whole numbers from 1 that rise")
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        if any(width % GROUPS for width in self.decoder_widths):
            raise ValueError(f"decoder_widths must be multiples of {GROUPS}")
        return self

    @property
    def size(self) -> int:
        """Width and height of the images in pixels."""
        return PATCH * self.scales[-1]

    def tokens(self, steps: int) -> int:
        """Positions in the first ``steps`` scales."""
        return sum(side * side for side in self.scales[:steps])


class NextScaleModel(nn.Module):
    """Transformer and decoder of one architecture, with random weights."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.transformer = NextScaleTransformer(
            a.bits, a.scales, a.width, a.layers, a.heads, a.text_width, a.expansion
        )
        self.decoder = Decoder(a.bits, a.decoder_widths)


@dataclass(frozen=True)
class Sampling:
    """How bits are drawn: from logits ``empty + guidance * (text - empty)``, divided by
    ``temperature``.

    Where ``guidance`` is at most 1, from the text's alone. ``steps`` is how many scales are drawn.
    """

    steps: int
    guidance: float
    temperature: float

    @property
    def guided(self) -> bool:
        """Whether every scale takes two passes."""
        return self.guidance > 1


def sample(
    transformer: NextScaleTransformer,
    scales: Sequence[int],
    text: torch.Tensor,
    thresholds: torch.Tensor,
    sampling: Sampling,
) -> torch.Tensor:
    """Draws bits scale by scale, each scale in one pass over the cached keys and values of those
    before.

    Args:
        text: Hidden states (n, tokens, text_width); with guidance (2n, ...), the empty caption's
            behind.
        thresholds: (n, positions of the first ``steps`` scales, bits), uniform on [0, 1): a bit is
            set where its probability is above.

    Returns:
        The sum of the codes, (n, bits, h, h); of the first ``steps`` scales alone where these are
        not all.
    """
    known = transformer.read(text)
    total = thresholds.new_zeros(len(thresholds), thresholds.shape[2], scales[-1], scales[-1])
    past: list[KeysValues] | None = None
    for side, drawn in zip(
        scales,
        thresholds.split([side * side for side in scales[: sampling.steps]], 1),
        strict=False,
    ):
        inputs = tokens_of(downscale(total, side))
        logits, past = transformer(inputs.repeat(len(text) // len(inputs), 1, 1), known, past)
        bits = drawn < torch.sigmoid(_guide(logits, sampling) / sampling.temperature)
        total = total + upscale(codes(bits.transpose(1, 2).unflatten(2, (side, side))), scales[-1])
    return total


def _guide(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    if not sampling.guided:
        return logits
    with_text, empty = logits.chunk(2)
    return empty + sampling.guidance * (with_text - empty)


def thresholds_of(seeds: Sequence[int], positions: int, bits: int) -> torch.Tensor:
    """What decides the bits of each seed's image: (n, positions, bits), drawn on the CPU from the
    seed alone.
    """
    return torch.stack(
        [
            torch.rand(positions, bits, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
    )
