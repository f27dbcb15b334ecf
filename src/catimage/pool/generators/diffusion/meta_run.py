"""Runs of a pipeline on torch's meta device, with the settings of a candidate."""

from __future__ import annotations

from typing import Any

import torch

from catimage.errors import InputError, error_summary
from catimage.pool.generators.diffusion.meta_pipeline import MetaPipeline
from catimage.pool.generators.diffusion.meter import CallCost
from catimage.pool.generators.diffusion.sampling import (
    guidance_arguments,
    new_scheduler,
    scheduler_error,
)
from catimage.pool.generators.diffusion.spec import DiffusersSpec

PROMPT = " ".join(["word"] * 32)
"""The prompt of the counted run.

Its length matters only for pipelines that do not pad prompts to a fixed length (Z-Image,
Qwen-Image).
"""
_OPTIONAL_SETTINGS: tuple[tuple[str, Any], ...] = (
    ("call", {}),
    ("scheduler_options", {}),
    ("scheduler", None),
    ("guidance_rescale", 0.0),
)
"""Settings that can make a pipeline fail, and their defaults."""


def run_pipeline(
    spec: DiffusersSpec, steps: int, meta: MetaPipeline, decode: bool = True
) -> list[tuple[str, CallCost]]:
    """Run the pipeline's call for one image on the meta device.

    Args:
        spec: the generator, with the settings of a candidate.
        steps: number of denoising steps.
        meta: the generator's pipeline.
        decode: whether latents are decoded.

    Returns:
        The name of the part and the cost of each call of a model, in order.

    Raises:
        InputError: the pipeline fails with a setting, or cannot run on meta tensors.
    """
    try:
        return _run(spec, steps, meta, decode)
    except InputError:
        raise
    except Exception as error:  # pipelines raise exceptions of any type
        reason = f"{type(error).__name__}: {error_summary(error)}"
        raise (
            _setting_error(spec, steps, meta, error)
            or spec.error(
                "pipeline",
                f"cannot compute the TFLOPs of {spec.pipeline} ({reason}). Give its candidates a"
                " 'cost'.",
            )
        ) from error


def check_run(spec: DiffusersSpec, steps: int, meta: MetaPipeline) -> None:
    """Check that no setting makes the pipeline fail. The arguments are as in :func:`run_pipeline`.

    A pipeline that cannot run on meta tensors is not an error.

    Raises:
        InputError: the pipeline fails with a setting, and does not fail without it.
    """
    try:
        _run(spec, steps, meta, decode=False)
    except InputError:
        raise
    except Exception as error:  # pipelines raise exceptions of any type
        if (setting_error := _setting_error(spec, steps, meta, error)) is not None:
            raise setting_error from error


def _run(
    spec: DiffusersSpec, steps: int, meta: MetaPipeline, decode: bool
) -> list[tuple[str, CallCost]]:
    arguments: dict[str, Any] = {
        "height": spec.size,
        "width": spec.size,
        "num_inference_steps": steps,
        "output_type": "np" if decode else "latent",
    }
    arguments |= guidance_arguments(spec, type(meta.pipeline))
    if spec.guidance_kind == "true-cfg":
        arguments["negative_prompt"] = ""
    arguments |= spec.call
    meta.pipeline.scheduler = new_scheduler(spec, meta.scheduler)
    meta.meter.calls.clear()
    meta.pipeline(prompt=PROMPT, generator=torch.Generator(), **arguments)
    return list(meta.meter.calls)


def _setting_error(
    spec: DiffusersSpec, steps: int, meta: MetaPipeline, error: Exception
) -> InputError | None:
    """Return the error that names the setting without which the pipeline runs; None if it fails."""
    for key, default in _OPTIONAL_SETTINGS:
        if getattr(spec, key) == default:
            continue
        try:
            _run(spec.model_copy(update={key: default}), steps, meta, decode=False)
        except Exception:  # another setting is the cause
            continue
        if key.startswith("scheduler"):
            return scheduler_error(spec, type(new_scheduler(spec, meta.scheduler)), error)
        value = getattr(spec, key)
        return spec.error(
            key,
            f"{spec.pipeline} fails with {value!r} ({error_summary(error)}). Correct the value.",
        )
    return None
