"""The noise schedule of the embedded pool, and the deterministic path from noise to image."""

from __future__ import annotations

from typing import Any

import torch

TRAIN_STEPS = 1000
NOISE: dict[str, Any] = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}
"""Configuration of diffusers' schedulers.

Zero terminal SNR, so that the first step sees pure noise and a plain wall can have any mean colour.
The cosine schedule, because a 16x16 latent loses its content to less noise than Stable Diffusion's
64x64.
"""


class NoisePath:
    """The deterministic sampler (DDIM, Song et al. 2021) for v-prediction, one step at a time.

    Times (n,) are integers from -1, the clean image, to 999, pure noise.

    Args:
        alphas: (1000,) cumulative products of the schedule, on the device of all later arguments.
    """

    def __init__(self, alphas: torch.Tensor) -> None:
        clean = torch.ones(1, device=alphas.device)
        self.signal = torch.cat([alphas, clean]).sqrt()  # index -1: the clean image
        self.noise = (1 - self.signal**2).clamp(min=0).sqrt()

    def at(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scales of signal and noise, each (n, 1, 1, 1)."""
        return self.signal[time][:, None, None, None], self.noise[time][:, None, None, None]

    def add(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return ``clean`` with noise of the given times."""
        signal, scale = self.at(time)
        return signal * clean + scale * noise

    def velocity(
        self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor
    ) -> torch.Tensor:
        """Return the velocity that a denoiser should predict."""
        signal, scale = self.at(time)
        return signal * noise - scale * clean

    def clean(self, x: torch.Tensor, velocity: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Return the clean image that a velocity implies."""
        signal, noise = self.at(time)
        return signal * x - noise * velocity

    def move(
        self, x: torch.Tensor, velocity: torch.Tensor, time: torch.Tensor, to: torch.Tensor
    ) -> torch.Tensor:
        """Return ``x`` one deterministic step later, at the earlier time ``to``."""
        signal, noise = self.at(time)
        next_signal, next_noise = self.at(to)
        clean = signal * x - noise * velocity
        return next_signal * clean + next_noise * (noise * x + signal * velocity)


def noise_path(device: torch.device | str = "cpu") -> NoisePath:
    """Return the path of the pool's noise schedule, with its tables on ``device``."""
    from diffusers import DDPMScheduler

    return NoisePath(DDPMScheduler.from_config(NOISE).alphas_cumprod.to(device))
