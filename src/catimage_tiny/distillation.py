"""Fewer steps from a trained denoiser: progressive distillation to four (tiny-lightning), and on to
one (tiny-turbo).

All work on the deterministic path that a sampler takes from noise to image, with times spaced as
the pool's schedulers space them ("trailing"). Students take no guidance: theirs is distilled into
them (Meng et al. 2023).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from catimage_tiny.denoiser import NOISE, Loss

TRAIN_STEPS = 1000


class NoisePath:
    """The deterministic sampler (DDIM, Song et al. 2021) of a noise schedule, one step at a time,
    for v-prediction.

    Args:
        alphas: (1000,) cumulative products of the schedule, the last of them 0 (zero terminal SNR).
    """

    def __init__(self, alphas: torch.Tensor) -> None:
        self.signal = torch.cat(
            [alphas, torch.ones(1)]
        ).sqrt()  # the last entry stands for time -1: the clean image
        self.noise = (1 - self.signal**2).sqrt()

    def at(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Signal and noise scale at times (n,) of -1 to 999, each (n, 1, 1, 1)."""
        return self.signal[time][:, None, None, None], self.noise[time][:, None, None, None]

    def clean(self, x: torch.Tensor, velocity: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The clean image that a velocity points to."""
        signal, noise = self.at(time)
        return signal * x - noise * velocity

    def move(
        self, x: torch.Tensor, velocity: torch.Tensor, time: torch.Tensor, to: torch.Tensor
    ) -> torch.Tensor:
        """One deterministic step from ``time`` to the earlier time ``to``."""
        signal, noise = self.at(time)
        next_signal, next_noise = self.at(to)
        return next_signal * (signal * x - noise * velocity) + next_noise * (
            noise * x + signal * velocity
        )

    def add(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """``clean`` with noise as at ``time``."""
        signal, scale = self.at(time)
        return signal * clean + scale * noise


def noise_path() -> NoisePath:
    """The path of the tiny pool's noise schedule."""
    from diffusers import DDPMScheduler

    return NoisePath(DDPMScheduler.from_config(NOISE).alphas_cumprod)


def guided_velocity(net: Any, nothing: torch.Tensor, guidance: float) -> Any:
    """A function (x, time, words) -> velocity with classifier-free guidance; a plain call where
    ``guidance`` is 1.
    """

    def velocity(x: torch.Tensor, time: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        if guidance == 1:
            return net(x, time, words).sample  # type: ignore[no-any-return]
        empty = nothing.to(words).expand_as(words)
        without, given = net(
            torch.cat([x, x]), torch.cat([time, time]), torch.cat([empty, words])
        ).sample.chunk(2)
        return without + guidance * (given - without)  # type: ignore[no-any-return]

    return velocity


def progressive_loss(path: NoisePath, teacher: Any, steps: int, substeps: int = 2) -> Loss:
    """One of ``steps`` student steps lands where ``substeps`` steps of the teacher do (Salimans and
    Ho 2022, algorithm 2).

    The error is that of the clean image which takes the student there, weighted by max(SNR, 1) as
    the paper has it.
    """
    span = TRAIN_STEPS // steps

    def loss(net: Any, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        start = TRAIN_STEPS - 1 - span * torch.randint(0, steps, (len(x),))
        noisy = path.add(x, torch.randn_like(x), start)
        with torch.no_grad():
            there = _walk(path, teacher, noisy, c, start, span // substeps, substeps)
            wanted = _leading_to(path, noisy, there, start, start - span)
        made = path.clean(noisy, net(noisy, start, c).sample, start)
        signal, noise = path.at(start)
        weight = (signal / noise).square().clamp(1, 20)
        return (weight * F.mse_loss(made, wanted, reduction="none")).mean()

    return loss


def one_step_loss(path: NoisePath, teacher: Any, steps: int) -> Loss:
    """One step from pure noise lands where the teacher's ``steps`` do: knowledge distillation on
    the teacher's own images.

    The absolute error leaves images less blurred than the squared one where the student cannot
    follow the teacher exactly.
    """

    def loss(net: Any, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        start = torch.full((len(x),), TRAIN_STEPS - 1)
        noise = torch.randn_like(x)
        with torch.no_grad():
            wanted = _walk(path, teacher, noise, c, start, TRAIN_STEPS // steps, steps)
        made = path.clean(noise, net(noise, start, c).sample, start)
        return F.smooth_l1_loss(made, wanted, beta=0.2)

    return loss


def _walk(
    path: NoisePath,
    teacher: Any,
    x: torch.Tensor,
    c: torch.Tensor,
    start: torch.Tensor,
    stride: int,
    steps: int,
) -> torch.Tensor:
    time = start
    for _ in range(steps):
        x = path.move(x, teacher(x, time, c), time, (time - stride).clamp(min=-1))
        time = time - stride
    return x


def _leading_to(
    path: NoisePath, x: torch.Tensor, there: torch.Tensor, start: torch.Tensor, to: torch.Tensor
) -> torch.Tensor:
    """The clean image whose single step from ``x`` at ``start`` arrives ``there`` at time ``to``."""
    (signal, noise), (next_signal, next_noise) = path.at(start), path.at(to.clamp(min=-1))
    ratio = next_noise / noise
    return (there - ratio * x) / (next_signal - ratio * signal)
