"""The convolutional encoder and decoder around the bits: 8x8 pixels a position of the finest scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

GROUPS = 8
PATCH = 8
"""Pixels along a side of what one position of the finest scale covers."""


class Block(nn.Module):
    """A residual block: twice normalisation, SiLU and a 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, width, h, h) to the same shape."""
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(F.silu(norm(y)))
        return x + y


class Encoder(nn.Module):
    """Pixels (n, 3, 8h, 8h) in [-1, 1] to features (n, bits, h, h). Training needs it; generation
    does not.
    """

    def __init__(self, bits: int, widths: Sequence[int]) -> None:
        super().__init__()
        coarse, middle = widths
        self.first = nn.Conv2d(48, middle, 3, padding=1)
        self.layers = nn.Sequential(
            Block(middle),
            nn.Conv2d(middle, coarse, 3, stride=2, padding=1),
            Block(coarse),
            nn.GroupNorm(GROUPS, coarse),
            nn.SiLU(),
        )
        self.last = nn.Conv2d(coarse, bits, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The features that :func:`~catimage.pool.generators.next_scale.quantiser.quantise` takes."""
        return cast(torch.Tensor, self.last(self.layers(self.first(F.pixel_unshuffle(pixels, 4)))))


class Decoder(nn.Module):
    """Sums of codes (n, bits, h, h) to pixels (n, 3, 8h, 8h) in about [-1, 1].

    ``widths`` are the channels at h, 2h and 4h; the last step to 8h is a rearrangement of channels.
    """

    def __init__(self, bits: int, widths: Sequence[int]) -> None:
        super().__init__()
        coarse, middle, fine = widths
        self.scale = bits**0.5
        self.first = nn.Conv2d(bits, coarse, 3, padding=1)
        self.layers = nn.Sequential(
            Block(coarse),
            nn.Conv2d(coarse, 4 * middle, 1),
            nn.PixelShuffle(2),
            Block(middle),
            Block(middle),
            nn.Conv2d(middle, 4 * fine, 1),
            nn.PixelShuffle(2),
            Block(fine),
            nn.GroupNorm(GROUPS, fine),
            nn.SiLU(),
        )
        self.last = nn.Conv2d(fine, 12, 3, padding=1)

    def forward(self, sums: torch.Tensor) -> torch.Tensor:
        """Codes come in units of 1/sqrt(bits), and are brought to units of 1."""
        return F.pixel_shuffle(self.last(self.layers(self.first(self.scale * sums))), 2)
