"""Multi-scale residual quantization to bits.

Infinity (section 3.2), with binary spherical quantization (Zhao et al. 2024). Feature maps are
(n, d, h, h), where h is the last of the scales. The codes of a scale with side s are (n, d, s, s);
every entry is +-1/sqrt(d), and its bit is the sign. For each scale in turn, the residual of the
coarser scales is averaged down to s x s, its signs are taken, and the code, interpolated to h x h,
is subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Quantised:
    """Quantized features, one entry per scale.

    Attributes:
        residuals: Residuals before quantization, (n, d, s, s).
        bits: Their signs as booleans, (n, d, s, s).
        sums: Sums of the codes up to and including each scale, (n, d, h, h).
    """

    residuals: list[torch.Tensor]
    bits: list[torch.Tensor]
    sums: list[torch.Tensor]


def codes(bits: torch.Tensor) -> torch.Tensor:
    """Convert booleans (n, d, s, s) to +-1/sqrt(d)."""
    return (2.0 * bits.float() - 1.0) / sqrt(bits.shape[1])


def downscale(features: torch.Tensor, side: int) -> torch.Tensor:
    """Average over areas: (n, d, h, h) to (n, d, side, side)."""
    if features.shape[-1] == side:
        return features
    return F.interpolate(features, size=(side, side), mode="area")


def upscale(features: torch.Tensor, side: int) -> torch.Tensor:
    """Interpolate bilinearly to (n, d, side, side)."""
    if features.shape[-1] == side:
        return features
    return F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)


def quantise(
    features: torch.Tensor, scales: Sequence[int], flips: torch.Tensor | None = None
) -> Quantised:
    """Quantize features scale by scale.

    Gradients pass straight through the signs, so that the gradient of the last sum is that of the
    features.

    Args:
        features: (n, d, h, h), where h is the last of ``scales``.
        scales: Side lengths, ascending.
        flips: (n,), the probability that a bit of an image is flipped after quantization. Later
            scales then encode the error of the wrong code: Infinity's self-correction (section
            3.4). The returned ``bits`` are those before the flips, which a model should predict;
            ``sums`` contain the flipped ones, which it reads.
    """
    quantised = Quantised([], [], [])
    total = torch.zeros_like(features)
    for side in scales:
        residual = downscale(features - total, side)
        bits = read = residual.detach() > 0
        if flips is not None:
            read = bits ^ (torch.rand_like(residual) < flips.view(-1, 1, 1, 1))
        code = residual + (codes(read) - residual).detach()
        total = total + upscale(code, features.shape[-1])
        quantised.residuals.append(residual)
        quantised.bits.append(bits)
        quantised.sums.append(total)
    return quantised
