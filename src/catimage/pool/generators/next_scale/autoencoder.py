"""The convolutional encoder and decoder of a next-scale model.

The encoder maps images to features, from which the quantiser computes bits. The decoder maps the
quantized features to images. A position of the finest scale covers 8x8 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

GROUPS = 8
"""Number of groups of the group normalizations."""
PATCH = 8
"""Side length in pixels of a position of the finest scale."""


class ResidualBlock(nn.Module):
    """A residual block: normalization, SiLU and a 3x3 convolution, twice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, width, h, h) to the same shape."""
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(F.silu(norm(y)))
        return x + y


class Encoder(nn.Module):
    """Maps pixels (n, 3, 8h, 8h) in [-1, 1] to features (n, bits, h, h). Used only in training.

    Args:
        bits: number of bits per position.
        widths: channels at the side lengths h and 2h.
    """

    def __init__(self, bits: int, widths: Sequence[int]) -> None:
        super().__init__()
        coarse, middle = widths
        self.first = nn.Conv2d(48, middle, 3, padding=1)
        self.layers = nn.Sequential(
            ResidualBlock(middle),
            nn.Conv2d(middle, coarse, 3, stride=2, padding=1),
            ResidualBlock(coarse),
            nn.GroupNorm(GROUPS, coarse),
            nn.SiLU(),
        )
        self.last = nn.Conv2d(coarse, bits, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return features for :func:`~catimage.pool.generators.next_scale.quantiser.quantise`."""
        return cast(torch.Tensor, self.last(self.layers(self.first(F.pixel_unshuffle(pixels, 4)))))


class Decoder(nn.Module):
    """Maps sums of codes (n, bits, h, h) to pixels (n, 3, 8h, 8h), approximately in [-1, 1].

    Args:
        bits: number of bits per position.
        widths: channels at the side lengths h, 2h and 4h. The last step, from 4h to 8h, rearranges
            channels.
    """

    def __init__(self, bits: int, widths: Sequence[int]) -> None:
        super().__init__()
        coarse, middle, fine = widths
        self.scale = bits**0.5  # codes are multiples of 1/sqrt(bits)
        self.first = nn.Conv2d(bits, coarse, 3, padding=1)
        self.layers = nn.Sequential(
            ResidualBlock(coarse),
            nn.Conv2d(coarse, 4 * middle, 1),
            nn.PixelShuffle(2),
            ResidualBlock(middle),
            ResidualBlock(middle),
            nn.Conv2d(middle, 4 * fine, 1),
            nn.PixelShuffle(2),
            ResidualBlock(fine),
            nn.GroupNorm(GROUPS, fine),
            nn.SiLU(),
        )
        self.last = nn.Conv2d(fine, 12, 3, padding=1)

    def forward(self, sums: torch.Tensor) -> torch.Tensor:
        """Return the pixels (n, 3, 8h, 8h) of sums of codes (n, bits, h, h)."""
        return F.pixel_shuffle(self.last(self.layers(self.first(self.scale * sums))), 2)
