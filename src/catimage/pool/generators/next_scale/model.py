"""The next-scale model: its architecture, which ``config.json`` stores, and sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import nn

from catimage.pool.generators.next_scale.autoencoder import GROUPS, PATCH, Decoder
from catimage.pool.generators.next_scale.quantiser import codes, downscale, upscale
from catimage.pool.generators.next_scale.transformer import (
    KeysValues,
    NextScaleTransformer,
    tokens_of,
)
from catimage.pool.spec import PoolSection


class NextScaleArchitecture(PoolSection):
    """The architecture of a next-scale model.

    Attributes:
        bits: bits per position.
        scales: side lengths of the scales in positions, ascending.
        width: channels of the transformer.
        layers: layers of the transformer.
        heads: attention heads.
        expansion: width of the feed-forward networks divided by ``width``.
        text_width: channels of the text encoder's hidden states.
        decoder_widths: channels of the decoder at 1, 2 and 4 times the side length of the finest
            scale.
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
    """The transformer and the decoder of an architecture, with random weights."""

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
        steps: number of scales to sample.
        guidance: scale of classifier-free guidance. If it is above 1, the logits are ``empty +
            guidance * (text - empty)``, else those of the text.
        temperature: divisor of the logits.
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
    on_scale: Callable[[int, torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Sample bits scale by scale, with one call of the transformer per scale.

    Keys and values of coarser scales are cached.

    Args:
        transformer: the transformer of the model.
        scales: side lengths of all scales of the model.
        text: hidden states of the prompts, (n, tokens, text_width). With guidance, (2n, tokens,
            text_width): the second half is the hidden states of the empty prompt.
        thresholds: uniform random numbers on [0, 1), (n, positions of the first ``steps`` scales,
            bits). A bit is set if its probability is above its threshold.
        sampling: number of scales, guidance and temperature.
        on_scale: called after every scale with the number of scales and the sums of their codes.

    Returns:
        Sums of the codes of the first ``steps`` scales, (n, bits, h, h).
    """
    projected_text = transformer.project_text(text)
    total = thresholds.new_zeros(len(thresholds), thresholds.shape[2], scales[-1], scales[-1])
    past: list[KeysValues] | None = None
    sides = scales[: sampling.steps]
    by_scale = thresholds.split([side * side for side in sides], 1)
    for number, (side, threshold) in enumerate(zip(sides, by_scale, strict=True), 1):
        inputs = tokens_of(downscale(total, side))
        passes = len(text) // len(inputs)
        logits, past = transformer(inputs.repeat(passes, 1, 1), projected_text, past)
        bits = threshold < torch.sigmoid(_guide(logits, sampling) / sampling.temperature)
        total = total + upscale(codes(bits.transpose(1, 2).unflatten(2, (side, side))), scales[-1])
        if on_scale is not None:
            on_scale(number, total)
    return total


def _guide(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Combine the logits of both passes, (2n, t, bits), to (n, t, bits)."""
    if not sampling.guided:
        return logits
    conditional, empty = logits.chunk(2)
    return empty + sampling.guidance * (conditional - empty)


def draw_thresholds(seeds: Sequence[int], positions: int, bits: int) -> torch.Tensor:
    """Draw uniform random numbers (n, positions, bits) from n seeds, on the CPU."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.rand(positions, bits, generator=g) for g in generators])
