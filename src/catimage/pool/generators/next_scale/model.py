"""The next-scale model: its architecture as stored in ``config.json``, and sampling."""

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


class NextScaleArchitecture(PoolSection):
    """The architecture of a model.

    Attributes:
        bits: Bits per position.
        scales: Side lengths of the scales, ascending.
        width: Channels of the transformer.
        layers: Layers of the transformer.
        heads: Attention heads.
        expansion: Width of the feed-forward networks, as a multiple of ``width``.
        text_width: Channels of the text encoder's hidden states.
        decoder_widths: Channels of the decoder at 1, 2 and 4 times the finest scale.
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
    def _check(self) -> Self:
        if list(self.scales) != sorted(set(self.scales)) or self.scales[0] < 1:
            raise ValueError("scales must be positive integers in ascending order")
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
        """Return the number of positions in the first ``steps`` scales."""
        return sum(side * side for side in self.scales[:steps])


class NextScaleModel(nn.Module):
    """Transformer and decoder of one architecture, with random weights."""

    def __init__(self, architecture: NextScaleArchitecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.transformer = NextScaleTransformer(
            a.bits, a.scales, a.width, a.layers, a.heads, a.text_width, a.expansion
        )
        self.decoder = Decoder(a.bits, a.decoder_widths)


@dataclass(frozen=True)
class Sampling:
    """Sampling settings.

    Attributes:
        steps: Number of scales to sample.
        guidance: Above 1, logits are ``empty + guidance * (text - empty)`` (classifier-free
            guidance); otherwise those of the text.
        temperature: Divides the logits.
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
    """Sample bits scale by scale, each in one pass with cached keys and values.

    Args:
        transformer: The model's transformer.
        scales: Its scales.
        text: Hidden states (n, tokens, text_width); with guidance (2n, ...), with those of the
            empty caption in the second half.
        thresholds: (n, positions of the first ``steps`` scales, bits), uniform on [0, 1). A bit is
            set if its probability is above its threshold.
        sampling: Number of scales, guidance and temperature.

    Returns:
        Sums of the codes of the first ``steps`` scales, (n, bits, h, h).
    """
    context = transformer.read(text)
    total = thresholds.new_zeros(len(thresholds), thresholds.shape[2], scales[-1], scales[-1])
    past: list[KeysValues] | None = None
    sides = scales[: sampling.steps]
    by_scale = thresholds.split([side * side for side in sides], 1)
    for side, threshold in zip(sides, by_scale, strict=True):
        inputs = tokens_of(downscale(total, side))
        logits, past = transformer(inputs.repeat(len(text) // len(inputs), 1, 1), context, past)
        bits = threshold < torch.sigmoid(_guide(logits, sampling) / sampling.temperature)
        total = total + upscale(codes(bits.transpose(1, 2).unflatten(2, (side, side))), scales[-1])
    return total


def _guide(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    if not sampling.guided:
        return logits
    conditional, empty = logits.chunk(2)
    return empty + sampling.guidance * (conditional - empty)


def draw_thresholds(seeds: Sequence[int], positions: int, bits: int) -> torch.Tensor:
    """Draw the uniform numbers of each seed's image on the CPU: (n, positions, bits)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.rand(positions, bits, generator=g) for g in generators])
