"""The autoencoder of the tiny pool: diffusers' ``AutoencoderKL`` from 64x64x3 pixels to 16x16x6
latents.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from catimage_tiny.schedule import cosine_rate

CHANNELS = 6


def new_autoencoder() -> Any:
    """An untrained autoencoder of 0.65 M parameters."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=64,
        latent_channels=CHANNELS,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False,
    )


def pixels_to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstruction_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Absolute error of the pixels and, so that small shapes stay sharp, of their horizontal and
    vertical differences.
    """
    loss = F.l1_loss(made, wanted) + 2 * F.mse_loss(made, wanted)
    for dim in (2, 3):
        loss = loss + F.l1_loss(made.diff(dim=dim), wanted.diff(dim=dim))
    return loss


def train_autoencoder(
    vae: Any,
    images: np.ndarray,
    out: Path,
    steps: int,
    batch: int = 16,
    rate: float = 2e-3,
    kl_weight: float = 1e-6,
    device: str = "cpu",
) -> None:
    """Trains and writes ``out`` in diffusers' format, its scaling factor set so that latents have
    unit variance.

    Args:
        vae: from :func:`new_autoencoder`, or one to go on with.
        images: uint8 (n, 64, 64, 3).
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    vae = vae.to(device)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    ema: Any = torch.optim.swa_utils.AveragedModel(
        vae, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    start, running = time.time(), 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = cosine_rate(step, steps, rate)
        x = pixels_to_tensor(images[np.sort(rng.choice(len(images), batch, replace=False))]).to(
            device
        )
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            posterior = vae.encode(x).latent_dist
            made = vae.decode(posterior.sample()).sample
        loss = reconstruction_loss(made.float(), x) + kl_weight * posterior.kl().float().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        ema.update_parameters(vae)
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 99 or step == steps - 1:
            print(
                f"autoencoder {step + 1}/{steps} loss {running:.4f} {time.time() - start:.0f} s",
                flush=True,
            )
            save_autoencoder(ema.module, images, out, device)


@torch.no_grad()
def save_autoencoder(vae: Any, images: np.ndarray, out: Path, device: str) -> None:
    """Writes the weights, with the scaling factor that gives the latents of 256 images unit
    variance.
    """
    latents = vae.encode(
        pixels_to_tensor(images[:: max(1, len(images) // 256)][:256]).to(device)
    ).latent_dist.sample()
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(out)
