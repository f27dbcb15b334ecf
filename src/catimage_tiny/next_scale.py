"""Losses of the next-scale generator's two parts: image tokenizer and transformer.

After Infinity (Han et al. 2024), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from catimage.pool.generators.next_scale.model import NextScaleArchitecture, NextScaleModel
from catimage.pool.generators.next_scale.quantiser import Quantised, downscale, quantise
from catimage.pool.generators.next_scale.tokenizer import Decoder, Encoder
from catimage.pool.generators.next_scale.transformer import NextScaleTransformer, tokens_of
from catimage.pool.generators.next_scale.weights import save_model
from catimage_tiny.autoencoder import reconstruction_loss
from catimage_tiny.clip import WIDTH
from catimage_tiny.data import normalize_pixels
from catimage_tiny.training import mixed_precision

SHAPE = NextScaleArchitecture(
    bits=24,
    scales=(1, 2, 3, 4, 6, 8),
    width=160,
    layers=5,
    heads=5,
    expansion=3,
    text_width=WIDTH,
    decoder_widths=(112, 80, 48),
)
"""The shipped model: 1.8 M parameters of transformer over 130 positions, 0.6 M of decoder."""
ENCODER_WIDTHS = (160, 96)
ENTROPY_WEIGHT, COMMITMENT_WEIGHT = 0.01, 0.05
COARSE_SHARE = 0.125
"""Share of images that the decoder sees after a random scale, not after the last."""
TOKENIZER_FLIPS, TRANSFORMER_FLIPS = 0.1, 0.3
"""Largest probability with which a bit is flipped."""


class ImageTokenizer(torch.nn.Module):
    """An untrained encoder and decoder; with :data:`SHAPE`, 0.18 and 0.26 GFLOP per image."""

    def __init__(
        self, shape: NextScaleArchitecture = SHAPE, encoder_widths: tuple[int, int] = ENCODER_WIDTHS
    ) -> None:
        super().__init__()
        self.scales = shape.scales
        self.encoder = Encoder(shape.bits, encoder_widths)
        self.decoder = Decoder(shape.bits, shape.decoder_widths)


def bit_losses(quantised: Quantised, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the entropy and the commitment loss of quantised features.

    The entropy loss is the mean entropy of single bits minus the entropy of each bit's mean over
    the batch, averaged over the scales (as in binary spherical quantization, bit by bit): -ln 2
    where every bit is certain and equally often set and unset. The commitment loss is the squared
    distance from the features to the sum of their codes, in units of a code.
    """
    bits, terms = features.shape[1], []
    for residual in quantised.residuals:
        probability = torch.sigmoid(2 * bits**0.5 * residual)
        terms.append(_entropy(probability).mean() - _entropy(probability.mean((0, 2, 3))).mean())
    return torch.stack(terms).mean(), bits * F.mse_loss(features, quantised.sums[-1].detach())


def _entropy(p: torch.Tensor) -> torch.Tensor:
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log() + (1 - p) * (1 - p).log())


def sums_to_decode(quantised: Quantised, coarse_share: float) -> torch.Tensor:
    """Return each image's sum of codes after the last scale, or after a random earlier one.

    Decoding from coarse scales too makes them carry as much information as they can.

    Args:
        quantised: From :func:`~catimage.pool.generators.next_scale.quantiser.quantise`.
        coarse_share: Probability with which an image stops at an earlier scale.
    """
    sums = torch.stack(quantised.sums)
    scales, n, device = len(sums), sums.shape[1], sums.device
    earlier = torch.randint(0, scales - 1, (n,), device=device)
    stops = torch.where(torch.rand(n, device=device) < coarse_share, earlier, scales - 1)
    index = stops.view(1, n, 1, 1, 1).expand(1, *sums.shape[1:])
    return sums.gather(0, index)[0]


def tokenizer_loss(model: ImageTokenizer, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Draw a batch and return reconstruction, entropy and commitment loss.

    One image in eight is decoded from its coarse scales alone, and one in four has up to a tenth of
    its bits flipped, as sampling will have wrong bits too.

    Args:
        model: The image tokenizer.
        images: uint8 (n, 64, 64, 3).
        batch_size: Images per batch.
    """
    device = images.device
    rows = torch.randint(0, len(images), (batch_size,), device=device)
    pixels = normalize_pixels(images[rows])
    flips = TOKENIZER_FLIPS * torch.rand(batch_size, device=device)
    flips = flips * (torch.rand(batch_size, device=device) < 0.25)
    with mixed_precision(device):
        features = model.encoder(pixels)
    features = features.float()
    quantised = quantise(features, model.scales, flips)
    entropy, commitment = bit_losses(quantised, features)
    with mixed_precision(device):
        output = model.decoder(sums_to_decode(quantised, COARSE_SHARE))
    reconstruction = reconstruction_loss(output.float(), pixels)
    return reconstruction + ENTROPY_WEIGHT * entropy + COMMITMENT_WEIGHT * commitment


@torch.no_grad()
def encode_features(
    tokenizer: ImageTokenizer, images: torch.Tensor, batch_size: int = 1024
) -> torch.Tensor:
    """Return the features before quantization of uint8 (n, 64, 64, 3): fp16 (n, bits, 8, 8)."""
    batches = images.split(batch_size)
    return torch.cat([tokenizer.encoder(normalize_pixels(b)).half() for b in batches])


def scale_inputs(sums: Sequence[torch.Tensor], scales: Sequence[int]) -> torch.Tensor:
    """Return the transformer's inputs for all scales in one sequence: (n, tokens, bits).

    The input of a scale is the sum of all coarser codes, averaged down to its side; zeros at first.
    """
    before = [torch.zeros_like(sums[0]), *sums[:-1]]
    maps = [downscale(total, side) for total, side in zip(before, scales, strict=True)]
    return torch.cat([tokens_of(m) for m in maps], 1)


def bit_loss(
    model: NextScaleTransformer, features: torch.Tensor, text: torch.Tensor, scales: Sequence[int]
) -> torch.Tensor:
    """Return the binary cross entropy of every scale's bits given the coarser ones.

    Up to 0.3 of an image's bits are flipped for the self-correction of Infinity (section 3.4). A
    scale's weight is its side, not its area, so that the few tokens that place the objects count
    (Infinity also reweights the scales).

    Args:
        model: The transformer.
        features: float32 (n, bits, h, h), from :func:`encode_features`.
        text: Hidden states of the captions, float32 (n, context, width).
        scales: Sides of the scales, ascending.
    """
    device = features.device
    with torch.no_grad():
        flips = TRANSFORMER_FLIPS * torch.rand(len(features), device=device)
        quantised = quantise(features, scales, flips)
    with mixed_precision(device):
        logits, _ = model(scale_inputs(quantised.sums, scales), model.read(text))
    bits = torch.cat([tokens_of(b) for b in quantised.bits], 1).float()
    by_scale = [torch.full((side * side,), 1 / side, device=device) for side in scales]
    weights = torch.cat(by_scale)
    losses = F.binary_cross_entropy_with_logits(logits.float(), bits, reduction="none")
    return (losses.mean((0, 2)) * weights).sum() / weights.sum()


def save_next_scale(
    tokenizer: ImageTokenizer, transformer: NextScaleTransformer, folder: Path
) -> None:
    """Write the trained transformer and the tokenizer's decoder as a generator's weights folder."""
    model = NextScaleModel(SHAPE)
    model.decoder.load_state_dict(tokenizer.decoder.state_dict())
    model.transformer.load_state_dict(transformer.state_dict())
    save_model(model, folder)
