"""The autoencoder of the embedded pool: diffusers' ``AutoencoderKL``.

It encodes an image of 64x64x3 pixels as a latent of 16x16x6 numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from catimage_tiny.data import normalize_pixels
from catimage_tiny.training import LossFunction, mixed_precision

LATENT_CHANNELS = 6
KL_WEIGHT = 1e-6
"""Weight of the KL divergence in the loss."""


def new_autoencoder() -> Any:
    """Return an untrained autoencoder of 0.65 M parameters."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=64,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False,
    )


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the error of pixels plus the error of differences between neighbouring pixels.

    The second term keeps the edges of small shapes sharp.

    Args:
        output: The decoded images, float (n, 3, h, w) in [-1, 1].
        target: The original images, in the same format.
    """
    loss = F.l1_loss(output, target) + 2 * F.mse_loss(output, target)
    for dim in (2, 3):
        loss = loss + F.l1_loss(output.diff(dim=dim), target.diff(dim=dim))
    return loss


def autoencoder_loss(vae: Any, images: torch.Tensor, batch_size: int) -> LossFunction:
    """Return a loss function: the reconstruction loss plus the weighted KL divergence.

    Args:
        vae: An autoencoder from :func:`new_autoencoder`.
        images: The training images, uint8 (n, 64, 64, 3), of which the loss function draws batches.
        batch_size: Number of images per batch.
    """
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    device = images.device

    def loss() -> torch.Tensor:
        rows = torch.randint(0, len(images), (batch_size,), device=device)
        pixels = normalize_pixels(images[rows])
        with mixed_precision(device):
            moments = vae.quant_conv(vae.encoder(pixels))
        posterior = DiagonalGaussianDistribution(moments.float())
        with mixed_precision(device):
            output = vae.decoder(vae.post_quant_conv(posterior.sample()))
        divergence: torch.Tensor = posterior.kl().mean()
        return reconstruction_loss(output.float(), pixels) + KL_WEIGHT * divergence

    return loss


@torch.no_grad()
def save_autoencoder(vae: Any, images: torch.Tensor, folder: Path) -> None:
    """Write an autoencoder with the scaling factor that gives latents unit variance.

    Args:
        vae: A trained autoencoder; the function sets ``scaling_factor`` in its configuration.
        images: Training images, uint8 (n, 64, 64, 3). The scaling factor is computed on up to 512
            of them.
        folder: The folder to write, in diffusers' format.
    """
    sample = images[:: max(1, len(images) // 512)][:512]
    latents = vae.encode(normalize_pixels(sample)).latent_dist.sample()
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(folder)


@torch.no_grad()
def encode_latents(vae: Any, images: torch.Tensor, batch_size: int = 1024) -> torch.Tensor:
    """Encode images as scaled latents (means of the posterior), fp16 (n, 6, 16, 16).

    Args:
        vae: A trained autoencoder.
        images: uint8 (n, 64, 64, 3).
        batch_size: Number of images per forward pass.
    """
    means = (
        vae.encode(normalize_pixels(image_batch)).latent_dist.mean
        for image_batch in images.split(batch_size)
    )
    return torch.cat([(mean * vae.config.scaling_factor).half() for mean in means])
