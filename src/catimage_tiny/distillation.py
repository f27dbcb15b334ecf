"""Distillation of the denoiser to four steps (tiny-lightning) and to one step (tiny-turbo).

The teacher is a denoiser that samples with many steps; the student is trained to sample with fewer.
Both use deterministic steps at the timesteps of the pool's schedulers ("trailing" spacing). If the
teacher uses classifier-free guidance, the student learns the guided result without guidance (Meng
et al. 2023), which halves the cost of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from catimage_tiny.denoiser import DenoiserLoss
from catimage_tiny.noise import TRAIN_TIMESTEPS, NoiseSchedule
from catimage_tiny.training import mixed_precision

Velocity = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(noisy latents, timesteps, hidden states of the captions) -> predicted velocity, float32."""


def guided_velocity(net: Any, empty_text: torch.Tensor, guidance: float) -> Velocity:
    """Return a function that predicts velocities with classifier-free guidance.

    Args:
        net: The denoiser.
        empty_text: Hidden states of the empty caption, (tokens, width).
        guidance: Guidance scale; 1 means no guidance, with one forward pass instead of two.
    """

    def velocity(x: torch.Tensor, time: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        with mixed_precision(x.device):
            if guidance == 1:
                return net(x, time, text).sample.float()  # type: ignore[no-any-return]
            texts = torch.cat([empty_text.to(text).expand_as(text), text])
            output = net(torch.cat([x, x]), torch.cat([time, time]), texts).sample
        unconditional, conditional = output.float().chunk(2)
        return unconditional + guidance * (conditional - unconditional)  # type: ignore[no-any-return]

    return velocity


def progressive_loss(
    schedule: NoiseSchedule, teacher: Velocity, steps: int, substeps: int = 5
) -> DenoiserLoss:
    """Return the loss function of progressive distillation (Salimans and Ho 2022, algorithm 2).

    One step of the student should have the same result as several steps of the teacher. The loss is
    the squared error of the clean latents that give this result, weighted by the signal-to-noise
    ratio, which is clipped to [1, 20]. The paper halves the number of steps repeatedly. This
    project distills 20 steps to 4 at once.

    Args:
        schedule: The noise schedule.
        teacher: Predicts the velocity of the teacher.
        steps: Number of steps of the student.
        substeps: Number of steps of the teacher per step of the student.
    """
    span = TRAIN_TIMESTEPS // steps

    def loss(net: Any, latents: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        step = torch.randint(0, steps, (len(latents),), device=latents.device)
        start = TRAIN_TIMESTEPS - 1 - span * step
        noisy = schedule.add_noise(latents, torch.randn_like(latents), start)
        with torch.no_grad():
            end = _sample(schedule, teacher, noisy, text, start, span // substeps, substeps)
            target = _target(schedule, noisy, end, start, start - span)
        with mixed_precision(latents.device):
            velocity = net(noisy, start, text).sample
        signal, noise = schedule.scales_at(start)
        weight = (signal / noise).square().clamp(1, 20)
        error = F.mse_loss(
            schedule.clean_latents(noisy, velocity.float(), start), target, reduction="none"
        )
        return (weight * error).mean()

    return loss


def one_step_loss(schedule: NoiseSchedule, teacher: Velocity, steps: int) -> DenoiserLoss:
    """Return the loss function of distillation to one step from pure noise to clean latents.

    The loss is the Huber loss between the latents of the student and those of the teacher. Where
    the student cannot match the teacher, this loss blurs images less than the squared error.

    Args:
        schedule: The noise schedule.
        teacher: Predicts the velocity of the teacher.
        steps: Number of steps of the teacher.
    """

    def loss(net: Any, latents: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        start = torch.full((len(latents),), TRAIN_TIMESTEPS - 1, device=latents.device)
        noise = torch.randn_like(latents)
        with torch.no_grad():
            target = _sample(schedule, teacher, noise, text, start, TRAIN_TIMESTEPS // steps, steps)
        with mixed_precision(latents.device):
            velocity = net(noise, start, text).sample
        return F.smooth_l1_loss(
            schedule.clean_latents(noise, velocity.float(), start), target, beta=0.2
        )

    return loss


def _sample(
    schedule: NoiseSchedule,
    teacher: Velocity,
    x: torch.Tensor,
    text: torch.Tensor,
    start: torch.Tensor,
    stride: int,
    steps: int,
) -> torch.Tensor:
    """Sample latents with the teacher from ``x`` at ``start``; a step has ``stride`` timesteps."""
    time = start
    for _ in range(steps):
        x = schedule.step(x, teacher(x, time, text), time, (time - stride).clamp(min=-1))
        time = time - stride
    return x


def _target(
    schedule: NoiseSchedule,
    x: torch.Tensor,
    end: torch.Tensor,
    start: torch.Tensor,
    end_time: torch.Tensor,
) -> torch.Tensor:
    """Return the clean latents for which one step from ``x`` results in ``end``.

    The step is from the timestep ``start`` to the timestep ``end_time``.
    """
    signal, noise = schedule.scales_at(start)
    next_signal, next_noise = schedule.scales_at(end_time.clamp(min=-1))
    ratio = next_noise / noise
    return (end - ratio * x) / (next_signal - ratio * signal)
