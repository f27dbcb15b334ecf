"""Multi-scale residual quantisation to bits (Infinity, section 3.2; binary spherical quantisation
after Zhao et al. 2024).

Feature maps are (n, d, h, h) with h the last of the scales. The codes of a scale of side s are (n,
d, s, s), every entry
+-1/sqrt(d); its bits are the same as booleans. Scale by scale, what the coarser scales have left
over is averaged down to s x s, its signs are taken, and the code, interpolated up to h x h, is
subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Quantised:
    """Of every scale in turn: its ``residuals`` before the signs were taken, its ``bits``, and the
    ``sums`` of all codes so far.

    The sums are at full size (n, d, h, h).
    """

    residuals: list[torch.Tensor]
    bits: list[torch.Tensor]
    sums: list[torch.Tensor]


def codes(bits: torch.Tensor) -> torch.Tensor:
    """Booleans (n, d, s, s) to +-1/sqrt(d)."""
    return (2.0 * bits.float() - 1.0) / sqrt(bits.shape[1])


def downscale(features: torch.Tensor, side: int) -> torch.Tensor:
    """Means over areas: (n, d, h, h) to (n, d, side, side)."""
    return (
        features
        if features.shape[-1] == side
        else F.interpolate(features, size=(side, side), mode="area")
    )


def upscale(features: torch.Tensor, side: int) -> torch.Tensor:
    """Bilinear interpolation to (n, d, side, side)."""
    same = features.shape[-1] == side
    return (
        features
        if same
        else F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)
    )


def quantise(
    features: torch.Tensor, scales: Sequence[int], flips: torch.Tensor | None = None
) -> Quantised:
    """Takes the bits of every scale; the gradient passes straight through the signs, so that the
    last sum's is the features' own.

    Args:
        features: (n, d, h, h), with h the last of ``scales``.
        scales: Sides, rising.
        flips: (n,), the probability with which each bit of an image is turned over after it was
            taken. The scales behind it then encode what the wrong code left over: Infinity's
            self-correction (section 3.4). ``bits`` are those before the flips, which a model should
            predict; ``sums`` are made of those after, which it sees.
    """
    made = Quantised([], [], [])
    total = torch.zeros_like(features)
    for side in scales:
        residual = downscale(features - total, side)
        bits = residual.detach() > 0
        seen = (
            bits if flips is None else bits ^ (torch.rand_like(residual) < flips.view(-1, 1, 1, 1))
        )
        code = residual + (codes(seen) - residual).detach()
        total = total + upscale(code, features.shape[-1])
        made.residuals.append(residual)
        made.bits.append(bits)
        made.sums.append(total)
    return made
