"""Low-rank adapters (LoRA): the parts that an adapter changes, and the addition of its weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catimage.pool.generators.diffusion.classes import diffusers_class
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.weights import lora_file

_DENOISER_PREFIXES = ("unet.", "transformer.", "lora_unet_", "diffusion_model.")
"""Prefixes of tensor names in the adapter of a denoiser.

The formats are those of diffusers (the first two), of kohya's scripts, and of ComfyUI.
"""

_LOADER_LOGGERS = ("diffusers.loaders.peft", "diffusers.loaders.lora_base")
_LOADING_ERRORS = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)
"""Exceptions of diffusers and peft for an adapter of another model or in an unknown format."""


def lora_parts(spec: DiffusersSpec, folder: Path) -> frozenset[str]:
    """Return the parts of the pipeline that the adapter may change; empty without an adapter.

    Generators without the adapter cannot share these parts. If all tensors of the adapter have
    names of a denoiser, the text encoders are not in the result. For any other adapter, all parts
    that support adapters are in the result, so a text encoder may be loaded more often than needed.

    Raises:
        InputError: the adapter is unavailable or invalid, or the pipeline supports no adapters.
    """
    file = lora_file(spec, folder)
    if file is None:
        return frozenset()
    cls = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    parts = getattr(cls, "_lora_loadable_modules", None)
    if not parts:
        raise spec.error("lora", f"{spec.pipeline} does not support adapters. Remove 'lora'.")
    denoiser_only = all(name.startswith(_DENOISER_PREFIXES) for name in _tensor_names(spec, file))
    return frozenset(
        part for part in parts if not (denoiser_only and part.startswith("text_encoder"))
    )


def _tensor_names(spec: DiffusersSpec, file: Path) -> list[str]:
    """Return the names of an adapter's tensors, from the header of its file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
    except SafetensorError as error:
        raise spec.error("lora", f"{file} is damaged. Download it again.") from error
    if not any("lora" in name for name in names):
        raise spec.error(
            "lora",
            f"{file} is not a low-rank adapter: none of its tensors has 'lora' in its name. Set"
            " the file of an adapter.",
        )
    return names


def fuse_lora(spec: DiffusersSpec, folder: Path, pipeline: Any) -> None:
    """Fuse the adapter with the weights of ``pipeline``.

    The adapter's layers are removed afterwards, so generation takes as long as without an adapter.

    Raises:
        InputError: the adapter does not fit the pipeline, or the fused weights are not finite.
    """
    parts, file = attach_lora(spec, folder, pipeline), lora_file(spec, folder)
    scale = spec.lora.scale if spec.lora else 0.0
    try:
        pipeline.fuse_lora(components=parts, lora_scale=scale, safe_fusing=True)
    except ValueError as error:  # the fused weights are not finite in this dtype
        raise spec.error(
            "lora",
            f"{file} cannot be fused in {spec.dtype} ({_relevant_line(error)}). Set another dtype"
            " or a smaller scale.",
        ) from error
    pipeline.unload_lora_weights()


def attach_lora(spec: DiffusersSpec, folder: Path, pipeline: Any) -> list[str]:
    """Add the adapter's layers to the modules of ``pipeline``, without changing weights.

    Args:
        spec: the generator's settings in the pool file.
        folder: the folder of the pool file.
        pipeline: the pipeline, which may be on torch's meta device.

    Returns:
        The parts that have layers of the adapter.

    Raises:
        InputError: the adapter does not fit the pipeline.
    """
    file = lora_file(spec, folder)
    if file is None:
        return []
    try:
        with _hide_expected_messages():
            pipeline.load_lora_weights(
                str(file.parent), weight_name=file.name, use_safetensors=True
            )
    except _LOADING_ERRORS as error:
        raise spec.error(
            "lora",
            f"{file} does not fit {spec.pipeline} with these weights ({_relevant_line(error)}). Set"
            " an adapter for this model.",
        ) from error
    parts = list(pipeline.get_list_adapters())
    if not parts:
        raise spec.error(
            "lora",
            f"{file} does not fit {spec.pipeline}: it has no layers for any part. Set an adapter"
            " for this model.",
        )
    return parts


def _relevant_line(error: Exception) -> str:
    """Return the first line about a size mismatch, else the first line.

    The message of peft has one line per layer.
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    mismatches = [line for line in lines if "size mismatch" in line]
    relevant = next(iter([*mismatches, *lines]), type(error).__name__)
    return " ".join(relevant.split())[:300].rstrip(".")


@contextmanager
def _hide_expected_messages() -> Iterator[None]:
    """Hide log messages of diffusers about parts without adapter layers, and about exceptions."""

    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR and not record.getMessage().startswith(
            "No LoRA keys associated"
        )

    loggers = [logging.getLogger(name) for name in _LOADER_LOGGERS]
    for logger in loggers:
        logger.addFilter(is_shown)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_shown)
