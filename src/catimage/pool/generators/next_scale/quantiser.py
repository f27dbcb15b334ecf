"""Multi-scale residual quantization of image features to bits.

The method is that of Infinity (Han et al. 2024, section 3.2), with binary spherical quantization
(Zhao et al. 2024). Features have the shape (n, d, h, h), where h is the side length of the last
scale. The code of a scale with the side length s has the shape (n, d, s, s). Its entries are
1/sqrt(d) or -1/sqrt(d), and the bit of an entry is the sign.

For each scale, from the coarsest to the finest, the features minus the sum of the codes so far are
averaged to s x s. The signs of this residual are the bits, and their code is interpolated to h x h
and added to the sum.
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
        residuals: residuals before quantization, (n, d, s, s).
        bits: signs of the residuals as booleans, (n, d, s, s).
        sums: sums of the codes up to and including each scale, (n, d, h, h).
    """

    residuals: list[torch.Tensor]
    bits: list[torch.Tensor]
    sums: list[torch.Tensor]


def codes(bits: torch.Tensor) -> torch.Tensor:
    """Convert bits (booleans, (n, d, s, s)) to a code with the entries 1/sqrt(d) and -1/sqrt(d)."""
    return (2.0 * bits.float() - 1.0) / sqrt(bits.shape[1])


def downscale(features: torch.Tensor, side: int) -> torch.Tensor:
    """Average over areas: features (n, d, h, h) to (n, d, side, side)."""
    if features.shape[-1] == side:
        return features
    return F.interpolate(features, size=(side, side), mode="area")


def upscale(features: torch.Tensor, side: int) -> torch.Tensor:
    """Interpolate features (n, d, s, s) bilinearly to (n, d, side, side)."""
    if features.shape[-1] == side:
        return features
    return F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)


def quantise(
    features: torch.Tensor, scales: Sequence[int], flips: torch.Tensor | None = None
) -> Quantised:
    """Quantize features scale by scale.

    Gradients pass through the signs unchanged (straight-through estimator), so that the gradient
    with respect to the features equals the gradient with respect to the last sum.

    Args:
        features: features (n, d, h, h), where h is the last of ``scales``.
        scales: side lengths of the scales, ascending.
        flips: probability that a bit of an image is flipped after quantization, (n,). Finer scales
            then encode the error of the flipped bits (self-correction, section 3.4 of Infinity).
            The returned ``bits``, the targets of the transformer, are those before the flips. The
            returned ``sums``, its inputs, are computed from the flipped bits.
    """
    quantised = Quantised([], [], [])
    total = torch.zeros_like(features)
    for side in scales:
        residual = downscale(features - total, side)
        bits = flipped_bits = residual.detach() > 0
        if flips is not None:
            flipped_bits = bits ^ (torch.rand_like(residual) < flips.view(-1, 1, 1, 1))
        code = residual + (codes(flipped_bits) - residual).detach()
        total = total + upscale(code, features.shape[-1])
        quantised.residuals.append(residual)
        quantised.bits.append(bits)
        quantised.sums.append(total)
    return quantised
