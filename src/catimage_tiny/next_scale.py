"""Losses of the two parts of the next-scale generator: the image tokenizer and the transformer.

The image tokenizer encodes an image as bits at several scales, and decodes these bits. The
transformer predicts the bits of each scale from a caption and the coarser scales. The method is
that of the Infinity paper (Han et al. 2024), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from catimage.pool.generators.next_scale.autoencoder import Decoder, Encoder
from catimage.pool.generators.next_scale.model import NextScaleArchitecture, NextScaleModel
from catimage.pool.generators.next_scale.quantiser import Quantised, downscale, quantise
from catimage.pool.generators.next_scale.transformer import NextScaleTransformer, tokens_of
from catimage.pool.generators.next_scale.weights import save_model
from catimage_tiny.autoencoder import reconstruction_loss
from catimage_tiny.clip import TEXT_WIDTH
from catimage_tiny.data import normalize_pixels
from catimage_tiny.training import mixed_precision

ARCHITECTURE = NextScaleArchitecture(
    bits=24,
    scales=(1, 2, 3, 4, 6, 8),
    width=160,
    layers=5,
    heads=5,
    expansion=3,
    text_width=TEXT_WIDTH,
    decoder_widths=(112, 80, 48),
)
"""Architecture of tiny-infinity.

The transformer has 1.8 M parameters and 130 positions; the decoder has 0.6 M parameters.
"""
ENCODER_WIDTHS = (160, 96)
"""Channels of the encoder at the finest scale, and at twice that resolution."""
ENTROPY_WEIGHT, COMMITMENT_WEIGHT = 0.01, 0.05
"""Weights in the loss of the image tokenizer (:func:`bit_losses`)."""
COARSE_SHARE = 0.125
"""Share of images that are decoded from their coarse scales only."""
IMAGE_TOKENIZER_FLIPS, TRANSFORMER_FLIPS = 0.1, 0.3
"""Largest probability with which a bit of an image is flipped in training."""


class ImageTokenizer(torch.nn.Module):
    """An untrained encoder and decoder of images.

    With the default arguments, they take 0.18 and 0.26 GFLOP per image.

    Args:
        architecture: Bits, scales and widths of the decoder.
        encoder_widths: Channels of the encoder at the finest scale, and at twice that resolution.
    """

    def __init__(
        self,
        architecture: NextScaleArchitecture = ARCHITECTURE,
        encoder_widths: tuple[int, int] = ENCODER_WIDTHS,
    ) -> None:
        super().__init__()
        self.scales = architecture.scales
        self.encoder = Encoder(architecture.bits, encoder_widths)
        self.decoder = Decoder(architecture.bits, architecture.decoder_widths)


def bit_losses(quantised: Quantised, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the entropy loss and the commitment loss of quantized features.

    The entropy loss is that of binary spherical quantization (Zhao et al. 2024), computed for each
    bit and averaged over the scales: the mean entropy of a bit minus the entropy of its mean
    probability over the batch. The minimum is -ln 2, for bits that are certain and set in half of
    the batch. The commitment loss is the mean over positions of the squared Euclidean distance
    between the features and the sum of their codes; a code is a vector of length 1.

    Args:
        quantised: The result of quantizing the features.
        features: float32 (n, bits, h, h).
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
    """Return the sum of the codes of all scales, for some images only of the coarse scales.

    Decoding from coarse scales only trains the image tokenizer to put as much information as
    possible into the coarse scales.

    Args:
        quantised: The quantized features of n images.
        coarse_share: Probability with which the sum of an image ends at a random scale before the
            last.

    Returns:
        The input of the decoder, (n, bits, h, h).
    """
    sums = torch.stack(quantised.sums)
    scales, n, device = len(sums), sums.shape[1], sums.device
    earlier = torch.randint(0, scales - 1, (n,), device=device)
    stops = torch.where(torch.rand(n, device=device) < coarse_share, earlier, scales - 1)
    index = stops.view(1, n, 1, 1, 1).expand(1, *sums.shape[1:])
    return sums.gather(0, index)[0]


def image_tokenizer_loss(
    model: ImageTokenizer, images: torch.Tensor, batch_size: int
) -> torch.Tensor:
    """Draw a batch and return the weighted sum of reconstruction, entropy and commitment loss.

    One image in eight is decoded from its coarse scales only. One image in four has up to a tenth
    of its bits flipped, because the bits that the transformer predicts can be wrong too.

    Args:
        model: The image tokenizer.
        images: The training images, uint8 (n, 64, 64, 3).
        batch_size: Number of images per batch.
    """
    device = images.device
    rows = torch.randint(0, len(images), (batch_size,), device=device)
    pixels = normalize_pixels(images[rows])
    flips = IMAGE_TOKENIZER_FLIPS * torch.rand(batch_size, device=device)
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
    image_tokenizer: ImageTokenizer, images: torch.Tensor, batch_size: int = 1024
) -> torch.Tensor:
    """Encode images as features before quantization, fp16 (n, bits, 8, 8).

    Args:
        image_tokenizer: A trained image tokenizer.
        images: uint8 (n, 64, 64, 3).
        batch_size: Number of images per forward pass.
    """
    batches = images.split(batch_size)
    return torch.cat([image_tokenizer.encoder(normalize_pixels(b)).half() for b in batches])


def scale_inputs(sums: Sequence[torch.Tensor], scales: Sequence[int]) -> torch.Tensor:
    """Return the inputs of the transformer for all scales in one sequence: (n, tokens, bits).

    The input of a scale is the sum of the codes of all coarser scales, downscaled by averaging to
    the side length of the scale. The input of the first scale is zero.

    Args:
        sums: For each scale, the sum of the codes up to this scale, (n, bits, h, h).
        scales: Side lengths of the scales, ascending.
    """
    before = [torch.zeros_like(sums[0]), *sums[:-1]]
    maps = [downscale(total, side) for total, side in zip(before, scales, strict=True)]
    return torch.cat([tokens_of(m) for m in maps], 1)


def bit_loss(
    model: NextScaleTransformer, features: torch.Tensor, text: torch.Tensor, scales: Sequence[int]
) -> torch.Tensor:
    """Return the binary cross entropy of the bits of every scale, given the coarser scales.

    Up to 30 per cent of the input bits of an image are flipped, so that the transformer learns to
    correct wrong bits (Infinity paper, section 3.4). The weight of a scale is its side length, not
    its number of tokens. Coarse scales, which determine where the objects are, therefore have more
    influence (the Infinity paper changes the weights of the scales too).

    Args:
        model: The transformer.
        features: Features from :func:`encode_features` as float32, (n, bits, h, h).
        text: Hidden states of the captions, float32 (n, tokens, width).
        scales: Side lengths of the scales, ascending.
    """
    device = features.device
    with torch.no_grad():
        flips = TRANSFORMER_FLIPS * torch.rand(len(features), device=device)
        quantised = quantise(features, scales, flips)
    with mixed_precision(device):
        logits, _ = model(scale_inputs(quantised.sums, scales), model.project_text(text))
    bits = torch.cat([tokens_of(b) for b in quantised.bits], 1).float()
    by_scale = [torch.full((side * side,), 1 / side, device=device) for side in scales]
    weights = torch.cat(by_scale)
    losses = F.binary_cross_entropy_with_logits(logits.float(), bits, reduction="none")
    return (losses.mean((0, 2)) * weights).sum() / weights.sum()


def save_next_scale(
    image_tokenizer: ImageTokenizer, transformer: NextScaleTransformer, folder: Path
) -> None:
    """Write the transformer and the decoder of the image tokenizer in the format of a generator."""
    model = NextScaleModel(ARCHITECTURE)
    model.decoder.load_state_dict(image_tokenizer.decoder.state_dict())
    model.transformer.load_state_dict(transformer.state_dict())
    save_model(model, folder)
