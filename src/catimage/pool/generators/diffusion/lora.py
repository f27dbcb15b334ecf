"""A low-rank adapter: which parts of a pipeline it changes, and how it is added to their weights
once and for all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.weights import diffusers_class, lora_place

_OF_DENOISER = ("unet.", "transformer.", "lora_unet_", "diffusion_model.")
"""How the tensors of a denoiser's adapter are called: by diffusers (the first two), by kohya's
scripts, by ComfyUI.
"""

_LOADERS = ("diffusers.loaders.peft", "diffusers.loaders.lora_base")
_UNFIT = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)
"""What diffusers and peft raise where an adapter is of another model, or of a make that they do not
know.
"""


def lora_parts(spec: DiffusersSpec, folder: Path) -> frozenset[str]:
    """The parts of a pipeline that its adapter may change, which it therefore has for itself; none
    without an adapter.

    An adapter whose tensors are all the denoiser's by their names leaves the text encoders to be
    shared. Of any other, every part that can have an adapter is taken to be changed: at worst a
    text encoder is loaded once more than needed, and never is another generator's changed.

    Raises:
        InputError: the adapter is not to be had or is none, or the pipeline can have none.
    """
    file = lora_place(spec, folder)
    if file is None:
        return frozenset()
    cls = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    if not (loadable := getattr(cls, "_lora_loadable_modules", None)):
        raise spec.error("lora", f"{spec.pipeline} takes no adapters; leave 'lora' out.")
    alone = all(name.startswith(_OF_DENOISER) for name in _tensors(spec, file))
    return frozenset(name for name in loadable if not (alone and name.startswith("text_encoder")))


def _tensors(spec: DiffusersSpec, file: Path) -> list[str]:
    """The names of an adapter's tensors, from the header of its file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
    except SafetensorError as error:
        raise spec.error("lora", f"{file} is damaged ({error}); fetch or make it again.") from error
    if not any("lora" in name for name in names):
        raise spec.error(
            "lora", f"{file} is no low-rank adapter: none of its tensors has 'lora' in its name."
        )
    return names


def add_lora(spec: DiffusersSpec, folder: Path, pipeline: Any) -> None:
    """Adds the adapter to the weights of ``pipeline``, whose modules are then plain ones again: it
    costs nothing when images are made.

    Raises:
        InputError: the adapter does not fit, or makes weights that are not numbers.
    """
    changed, file = attach_lora(spec, folder, pipeline), lora_place(spec, folder)
    scale = spec.lora.scale if spec.lora else 0.0
    try:
        pipeline.fuse_lora(components=changed, lora_scale=scale, safe_fusing=True)
    except ValueError as error:  # the sum is not finite in this dtype
        raise spec.error(
            "lora", f"{file} cannot be added in {spec.dtype}: {_short(error)}."
        ) from error
    pipeline.unload_lora_weights()


def attach_lora(spec: DiffusersSpec, folder: Path, pipeline: Any) -> list[str]:
    """Puts the adapter's layers beside those of ``pipeline``, which may be without weights; returns
    the parts that have some.

    Raises:
        InputError: the adapter does not fit.
    """
    file = lora_place(spec, folder)
    if file is None:
        return []
    try:
        with _quiet():
            pipeline.load_lora_weights(
                str(file.parent), weight_name=file.name, use_safetensors=True
            )
    except _UNFIT as error:
        raise spec.error(
            "lora", f"{file} does not fit {spec.pipeline} of these weights: {_short(error)}."
        ) from error
    if not (changed := list(pipeline.get_list_adapters())):
        raise spec.error(
            "lora", f"{file} does not fit {spec.pipeline}: it has nothing for any of its parts."
        )
    return changed


def _short(error: Exception) -> str:
    """The first thing that does not fit, in the library's words: it lists every layer."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()] or [
        type(error).__name__
    ]
    return next((line for line in lines if "size mismatch" in line), lines[0])[:300].rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what diffusers logs of parts that an adapter has nothing for, and of errors that are
    raised beside.
    """

    def kept(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR and not record.getMessage().startswith(
            "No LoRA keys associated"
        )

    loggers = [logging.getLogger(name) for name in _LOADERS]
    for logger in loggers:
        logger.addFilter(kept)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(kept)
