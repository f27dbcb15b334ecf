"""Distillation of the denoiser to four steps (tiny-lightning) and to one (tiny-turbo).

Teachers and students follow the deterministic path from noise to image, at the times of the pool's
schedulers ("trailing" spacing). Students take no guidance: it is distilled into them (Meng et al.
2023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from catimage_tiny.denoiser import DenoiserLoss
from catimage_tiny.noise import TRAIN_STEPS, NoisePath
from catimage_tiny.training import mixed_precision

Velocity = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(latents, times, text) -> predicted velocity, float32."""


def guided_velocity(net: Any, empty: torch.Tensor, guidance: float) -> Velocity:
    """Return a denoiser's velocity with classifier-free guidance; without any where it is 1.

    Args:
        net: The denoiser.
        empty: (context, width), hidden states of the empty caption.
        guidance: Guidance scale.
    """

    def velocity(x: torch.Tensor, time: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        with mixed_precision(x.device):
            if guidance == 1:
                return net(x, time, text).sample.float()  # type: ignore[no-any-return]
            both = torch.cat([empty.to(text).expand_as(text), text])
            output = net(torch.cat([x, x]), torch.cat([time, time]), both).sample
        unconditional, conditional = output.float().chunk(2)
        return unconditional + guidance * (conditional - unconditional)  # type: ignore[no-any-return]

    return velocity


def progressive_loss(
    path: NoisePath, teacher: Velocity, steps: int, substeps: int = 5
) -> DenoiserLoss:
    """Return the loss of progressive distillation (Salimans and Ho 2022, algorithm 2).

    One of the student's ``steps`` should end where ``substeps`` steps of the teacher end. The error
    is that of the clean image that leads there, weighted by max(SNR, 1), at most 20. The paper
    halves the number of steps repeatedly; five substeps go from 20 guided steps to 4 at once.
    """
    span = TRAIN_STEPS // steps

    def loss(net: Any, latents: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        step = torch.randint(0, steps, (len(latents),), device=latents.device)
        start = TRAIN_STEPS - 1 - span * step
        noisy = path.add(latents, torch.randn_like(latents), start)
        with torch.no_grad():
            end = _follow(path, teacher, noisy, text, start, span // substeps, substeps)
            target = _clean_leading_to(path, noisy, end, start, start - span)
        with mixed_precision(latents.device):
            velocity = net(noisy, start, text).sample
        signal, noise = path.at(start)
        weight = (signal / noise).square().clamp(1, 20)
        error = F.mse_loss(path.clean(noisy, velocity.float(), start), target, reduction="none")
        return (weight * error).mean()

    return loss


def one_step_loss(path: NoisePath, teacher: Velocity, steps: int) -> DenoiserLoss:
    """Return the loss of one step from pure noise against the teacher's image after ``steps``.

    The Huber loss blurs less than the squared error where the student cannot match the teacher.
    """

    def loss(net: Any, latents: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        start = torch.full((len(latents),), TRAIN_STEPS - 1, device=latents.device)
        noise = torch.randn_like(latents)
        with torch.no_grad():
            target = _follow(path, teacher, noise, text, start, TRAIN_STEPS // steps, steps)
        with mixed_precision(latents.device):
            velocity = net(noise, start, text).sample
        return F.smooth_l1_loss(path.clean(noise, velocity.float(), start), target, beta=0.2)

    return loss


def _follow(
    path: NoisePath,
    teacher: Velocity,
    x: torch.Tensor,
    text: torch.Tensor,
    start: torch.Tensor,
    stride: int,
    steps: int,
) -> torch.Tensor:
    """Take ``steps`` deterministic steps of the teacher, ``stride`` times apart."""
    time = start
    for _ in range(steps):
        x = path.move(x, teacher(x, time, text), time, (time - stride).clamp(min=-1))
        time = time - stride
    return x


def _clean_leading_to(
    path: NoisePath, x: torch.Tensor, end: torch.Tensor, start: torch.Tensor, to: torch.Tensor
) -> torch.Tensor:
    """Return the clean image whose single step from ``x`` at ``start`` gives ``end`` at ``to``."""
    (signal, noise), (next_signal, next_noise) = path.at(start), path.at(to.clamp(min=-1))
    ratio = next_noise / noise
    return (end - ratio * x) / (next_signal - ratio * signal)
