"""The noise schedule of the embedded pool, and deterministic sampling steps."""

from __future__ import annotations

from typing import Any

import torch

TRAIN_TIMESTEPS = 1000
"""Number of timesteps of the noise schedule."""
SCHEDULER_CONFIG: dict[str, Any] = {
    "num_train_timesteps": TRAIN_TIMESTEPS,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}
"""Configuration of the schedulers of diffusers.

The terminal SNR is zero, so that sampling starts from pure noise and plain walls can have any
colour. The schedule is the cosine schedule, because less noise hides the content of a 16x16 latent
than that of the 64x64 latents of Stable Diffusion.
"""


class NoiseSchedule:
    """The noise schedule, with the steps of deterministic sampling (DDIM, Song et al. 2021).

    All methods take latents (n, channels, h, w) and timesteps: integers (n,) from -1 (clean
    latents, without noise) to 999 (pure noise). The denoiser predicts the velocity (v-prediction).

    Args:
        alphas: The cumulative products of the noise schedule (``alphas_cumprod``), float (1000,),
            on the device of the latents.
    """

    def __init__(self, alphas: torch.Tensor) -> None:
        clean = torch.ones(1, device=alphas.device)
        self.signal = torch.cat([alphas, clean]).sqrt()  # index -1: clean latents
        self.noise = (1 - self.signal**2).clamp(min=0).sqrt()

    def scales_at(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors of signal and noise at each timestep, both (n, 1, 1, 1)."""
        return self.signal[time][:, None, None, None], self.noise[time][:, None, None, None]

    def add_noise(
        self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        """Add noise to clean latents."""
        signal, scale = self.scales_at(time)
        return signal * clean + scale * noise

    def velocity(
        self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        """Return the velocity that a denoiser should predict for clean latents with noise."""
        signal, scale = self.scales_at(time)
        return signal * noise - scale * clean

    def clean_latents(
        self, x: torch.Tensor, velocity: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        """Return the clean latents that follow from noisy latents ``x`` and a velocity."""
        signal, noise = self.scales_at(time)
        return signal * x - noise * velocity

    def step(
        self, x: torch.Tensor, velocity: torch.Tensor, time: torch.Tensor, next_time: torch.Tensor
    ) -> torch.Tensor:
        """Take a deterministic step from noisy latents ``x`` to a timestep with less noise."""
        signal, noise = self.scales_at(time)
        next_signal, next_noise = self.scales_at(next_time)
        clean = signal * x - noise * velocity
        return next_signal * clean + next_noise * (noise * x + signal * velocity)


def noise_schedule(device: torch.device | str = "cpu") -> NoiseSchedule:
    """Return the noise schedule of the embedded pool, with its tensors on a device."""
    from diffusers import DDPMScheduler

    return NoiseSchedule(DDPMScheduler.from_config(SCHEDULER_CONFIG).alphas_cumprod.to(device))
