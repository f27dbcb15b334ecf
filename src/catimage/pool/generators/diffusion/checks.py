"""Checks of a diffusion generator and its files before the weights are loaded."""

from __future__ import annotations

import copy
import json
from math import prod
from pathlib import Path
from typing import Any

import torch

from catimage.pool.device_memory import free_bytes
from catimage.pool.generators.diffusion.classes import diffusers_class, part_class
from catimage.pool.generators.diffusion.loading import Component, components
from catimage.pool.generators.diffusion.lora import attach_lora, lora_parts
from catimage.pool.generators.diffusion.meta_pipeline import meta_pipeline
from catimage.pool.generators.diffusion.meter import DENOISERS
from catimage.pool.generators.diffusion.sampling import default_scheduler
from catimage.pool.generators.diffusion.settings import PipelineClasses
from catimage.pool.generators.diffusion.spec import DiffusersSpec, PipelinePart
from catimage.pool.generators.diffusion.weights import weights_folder

_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")


def check_generator(spec: DiffusersSpec, folder: Path, device: str) -> PipelineClasses:
    """Check the pipeline, the files of weights, the adapter and the memory.

    Missing files are downloaded.

    Args:
        spec: the generator's settings in the pool file.
        folder: the folder of the pool file.
        device: a device name of torch.

    Raises:
        InputError: files are unavailable, damaged, pickled or of another pipeline, or the weights
            exceed the free memory of the device.
    """
    pipeline = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    parts = components(spec, folder)
    _check_lora(spec, parts, folder)
    for name, part in parts.items():
        if (part.folder / "config.json").is_file():
            part_class(spec, name, part.part_class)
    _check_memory(spec, sum(weight_bytes(spec, name, part) for name, part in parts.items()), device)
    denoisers = [_denoiser_class(spec, name, parts[name]) for name in DENOISERS if name in parts]
    scheduler = parts["scheduler"]
    scheduler_class = part_class(spec, "scheduler", scheduler.part_class)
    return PipelineClasses(
        pipeline=pipeline,
        denoiser=denoisers[0] if denoisers else type(None),
        scheduler=default_scheduler(spec, scheduler_class, scheduler.folder)[1],
    )


def _check_lora(spec: DiffusersSpec, parts: dict[str, Component], folder: Path) -> None:
    """Check the shapes of the adapter: attach it to the pipeline on the meta device."""
    if not lora_parts(spec, folder):
        return
    local_parts: dict[str, PipelinePart | None] = {
        name: PipelinePart(weights=str(parts[name].folder.resolve()))
        for name in spec.replaced_parts
    }
    local_parts |= dict.fromkeys(spec.omitted_parts)
    configuration = str(weights_folder(spec, folder).resolve())
    local = spec.model_copy(update={"configuration": configuration, "parts": local_parts})
    attach_lora(spec, folder, copy.deepcopy(meta_pipeline(local, folder).pipeline))


def weight_bytes(spec: DiffusersSpec, name: str, part: Component) -> int:
    """Return the bytes of a part's weights in memory, from the headers of its files.

    Args:
        spec: the generator, with the dtype and the variant of the weights.
        name: name of the part, for error messages.
        part: the part.

    Returns:
        Number of bytes; 0 for a part without weights, such as a tokenizer.

    Raises:
        InputError: the weights are pickled or not found, or a file is damaged.
    """
    files = [part.file] if part.file else weight_files(part.folder, spec.variant)
    if not files:
        _check_has_no_weights(spec, name, part)
    elements = sum(_count_elements(spec, file) for file in files)
    return elements * int(getattr(torch, spec.dtype).itemsize)


def weight_files(folder: Path, variant: str | None) -> list[Path]:
    """Return the safetensors files of a folder that are loaded.

    These are the files of the variant, such as ``model.fp16.safetensors`` and
    ``model.fp16-00001-of-00002.safetensors``. If there are none, these are the files without a
    variant.
    """
    files = sorted(folder.glob("*.safetensors"))
    infixes = {file: file.name.split(".")[1:-1] for file in files}
    of_variant = [
        f for f in files if variant and infixes[f] and infixes[f][0].split("-")[0] == variant
    ]
    return of_variant or [file for file in files if not infixes[file]]


def _check_has_no_weights(spec: DiffusersSpec, name: str, part: Component) -> None:
    """Check that a part without safetensors files needs no weights, such as a tokenizer."""
    key = f"parts.{name}" if name in spec.replaced_parts else "weights"
    pickles = [
        file.name for suffix in _PICKLE_SUFFIXES for file in sorted(part.folder.glob(f"*{suffix}"))
    ]
    if pickles:
        raise spec.error(
            key,
            f"{part.folder} has pickled weights only ({pickles[0]}), which can run code when they"
            " are loaded. Convert them to safetensors, or set a revision that has them.",
        )
    if (part.folder / "config.json").is_file() and "tokenizer" not in name:
        raise spec.error(
            key,
            f"there is no safetensors file in {part.folder}. Put the weights of the {name} there.",
        )


def _count_elements(spec: DiffusersSpec, file: Path) -> int:
    """Return the number of elements of all tensors in a file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
            return sum(prod(tensors.get_slice(name).get_shape()) for name in names)
    except SafetensorError as error:
        raise spec.error("weights", f"{file} is damaged. Download it again.") from error


def _check_memory(spec: DiffusersSpec, required: int, device: str) -> None:
    """Check that the device has ``required`` bytes of free memory."""
    free = free_bytes(device)
    if free is not None and required > free:
        raise spec.error(
            "weights",
            f"the weights take {required / 1e9:.1f} GB in {spec.dtype}, but {device} has"
            f" {free / 1e9:.1f} GB free. Free memory, or use another device or a smaller dtype.",
        )


def _denoiser_class(spec: DiffusersSpec, name: str, part: Component) -> Any:
    """Return the class that the part's configuration names, else the class in model_index.json."""
    config: dict[str, Any] = {}
    if (part.folder / "config.json").is_file():
        config = json.loads((part.folder / "config.json").read_text(encoding="utf-8"))
    if class_name := config.get("_class_name"):
        return diffusers_class(spec, "weights", class_name, class_name)
    return part_class(spec, name, part.part_class)
