"""Denoising steps of a pipeline of diffusers: a hook after every step, and intermediate images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from catimage.pool.stepwise import DenoisingStep, StepHook


def call_after_steps(pipeline: Any, size: int, on_step: StepHook) -> None:
    """Make the scheduler of a pipeline call a hook after each of its steps.

    All pipelines call ``scheduler.step`` once per step, also those without callbacks of their own.

    Args:
        pipeline: the pipeline, with a scheduler that is used for one call only.
        size: width and height of the images in pixels.
        on_step: the hook.
    """
    scheduler, number = pipeline.scheduler, 0
    original = scheduler.step

    @functools.wraps(original)  # pipelines read the names of the arguments
    def step(model_output: Any, timestep: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal number
        output = original(model_output, timestep, sample, *args, **kwargs)
        number += 1
        latents = denoised_latents(scheduler, output, model_output, sample)
        decode = _decoder(pipeline, latents, size)
        on_step(DenoisingStep(number, len(scheduler.timesteps), decode))
        return output

    scheduler.step = step


def denoised_latents(scheduler: Any, output: Any, model_output: Any, sample: Any) -> Any:
    """Return the scheduler's prediction of the final latents, after a step.

    If the scheduler has none, the result is the latents after the step, which contain noise.

    Args:
        scheduler: the scheduler.
        output: the result of its method ``step``.
        model_output: the output of the denoiser.
        sample: the latents before the step.
    """
    values = output if isinstance(output, tuple) else tuple(output.values())
    if len(values) > 1 and isinstance(values[1], torch.Tensor):
        return values[1]
    name = type(scheduler).__name__
    if name.startswith("FlowMatchEuler"):
        return sample - scheduler.sigmas[scheduler.step_index - 1] * model_output
    predictions = getattr(scheduler, "model_outputs", None)
    if predictions and _predicts_samples(scheduler.config):
        return predictions[-1]
    return values[0]


def _predicts_samples(config: Any) -> bool:
    """Return whether ``model_outputs`` of a multistep solver are predictions of final latents."""
    if "predict_x0" in config:
        return bool(config.predict_x0)
    return "++" in str(config.get("algorithm_type", ""))


def _decoder(
    pipeline: Any, latents: Any, size: int
) -> Callable[[Sequence[int]], np.ndarray] | None:
    """Return a function that decodes latents; None if the latents are not those of a 2-D VAE."""
    vae: Any = getattr(pipeline, "vae", None)
    packed = latents.dim() == 3 and hasattr(pipeline, "_unpack_latents")
    if not hasattr(getattr(vae, "config", None), "scaling_factor"):
        return None
    if not packed and latents.dim() != 4:
        return None
    if any(parameter.dim() > 4 for parameter in vae.parameters()):
        return None

    def decode(positions: Sequence[int]) -> np.ndarray:
        rows = latents[list(positions)]
        if packed:
            rows = pipeline._unpack_latents(rows, size, size, pipeline.vae_scale_factor)
        return decode_latents(vae, rows)

    return decode


def decode_latents(vae: Any, latents: Any) -> np.ndarray:
    """Decode latents (n, c, h, w) to pixels: uint8, (n, height, width, 3)."""
    config, dtype = vae.config, vae.dtype
    upcast = dtype == torch.float16 and getattr(config, "force_upcast", False)
    if upcast:
        vae.to(torch.float32)
    try:
        latents = latents.to(vae.dtype) / config.scaling_factor
        latents = latents + (getattr(config, "shift_factor", None) or 0.0)
        images = vae.decode(latents, return_dict=False)[0].float()
    finally:
        if upcast:
            vae.to(dtype)
    pixels = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    decoded: np.ndarray = (pixels * 255).round().byte().cpu().numpy()
    return decoded
