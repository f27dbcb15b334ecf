"""What can be known of a diffusion generator before it is loaded."""

from __future__ import annotations

import copy
import inspect
import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from catimage.errors import nearest
from catimage.pool.device_memory import free_bytes
from catimage.pool.generators.diffusion.caching import check_cache
from catimage.pool.generators.diffusion.dry import dry_pipeline
from catimage.pool.generators.diffusion.loading import Component, components, read_index
from catimage.pool.generators.diffusion.lora import attach_lora, lora_parts
from catimage.pool.generators.diffusion.sampling import guidance_arguments, scheduler_of
from catimage.pool.generators.diffusion.spec import DiffusersSpec, PipelinePart
from catimage.pool.generators.diffusion.weights import diffusers_class, weights_folder
from catimage.pool.spec import Candidate

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Found:
    """What a generator's files say: its pipeline's class, the denoiser's, and its own scheduler."""

    pipeline: type[Any]
    denoiser: type[Any]
    scheduler: Any


def check_generator(spec: DiffusersSpec, folder: Path, device: str) -> Found:
    """Looks at the pipeline, its arguments, its files of weights, its adapter and its need of
    memory.

    Raises:
        InputError: the files are not to be had, do not fit the pipeline, are pickles or damaged, or
            more than the device can hold.
    """
    cls = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    parts = components(spec, folder)
    _check_parts(spec, cls, weights_folder(spec, folder))
    _check_call(spec, cls)
    _check_lora(spec, parts, folder)
    _check_memory(spec, sum(weight_bytes(spec, name, part) for name, part in parts.items()), device)
    denoiser = next(
        (_class_of(spec, parts[n]) for n in ("unet", "transformer") if n in parts), type(None)
    )
    return Found(
        cls,
        denoiser,
        _class_of(spec, parts["scheduler"]).from_pretrained(parts["scheduler"].folder),
    )


def check_candidate(spec: DiffusersSpec, candidate: Candidate, found: Found) -> None:
    """Looks at what a candidate samples; ``spec`` is the generator with its settings.

    Raises:
        InputError: the scheduler, its options, the number of steps, guidance or the caching method
            do not fit.
    """
    most = scheduler_of(spec, found.scheduler).config.num_train_timesteps
    if candidate.steps > most:
        raise spec.error(
            "steps",
            f"the candidate {candidate.candidate!r} has {candidate.steps} steps, its scheduler at"
            f" most {most}.",
        )
    guidance_arguments(spec, found.pipeline)
    check_cache(spec, found.pipeline, found.denoiser)


def _check_parts(spec: DiffusersSpec, cls: type[Any], root: Path) -> None:
    """The weights are those of the pipeline that the pool names; what is optional may be left out
    by that pipeline alone.
    """
    index, expected = read_index(root), inspect.signature(cls.__init__).parameters
    own = index.get("_class_name", "another pipeline")
    optional = cls._optional_components if own == spec.pipeline else []
    missing = [
        n
        for n, p in expected.items()
        if n not in ("self", *optional, *index) and p.default is p.empty
    ]
    if missing:
        raise spec.error(
            "pipeline",
            f"the weights in {root} are of {own}, without the {missing[0]} of {spec.pipeline};"
            " name it.",
        )


def _check_call(spec: DiffusersSpec, cls: type[Any]) -> None:
    known = [name for name in inspect.signature(cls.__call__).parameters if name != "self"]
    for name in spec.call:
        if name not in known:
            raise spec.error(
                f"call.{name}", f"{spec.pipeline} takes no such argument{nearest(name, known)}."
            )


def _check_lora(spec: DiffusersSpec, parts: dict[str, Component], folder: Path) -> None:
    """The adapter fits, layer by layer, a pipeline of these parts that has shapes and no numbers."""
    if not lora_parts(spec, folder):
        return
    places = {name: PipelinePart(weights=str(parts[name].folder.resolve())) for name in spec.parts}
    here = spec.model_copy(
        update={"configuration": str(weights_folder(spec, folder).resolve()), "parts": places}
    )
    attach_lora(spec, folder, copy.deepcopy(dry_pipeline(here, folder).pipeline))


def weight_bytes(spec: DiffusersSpec, name: str, part: Component) -> int:
    """Bytes that a part's weights take in memory at the generator's dtype, from the headers of its
    files; 0 for one without weights.

    Raises:
        InputError: it has pickles alone, a file is damaged, or there is no file of the variant.
    """
    files = [part.file] if part.file else weight_files(part.folder, spec.variant)
    if not files:
        _refuse_without(spec, name, part)
    return sum(_elements(spec, file) for file in files) * int(getattr(torch, spec.dtype).itemsize)


def weight_files(folder: Path, variant: str | None) -> list[Path]:
    """The safetensors files that are loaded: those of the variant (``model.fp16.safetensors``),
    else the plain ones.
    """
    named = [(file, file.name.split(".")[1:-1]) for file in sorted(folder.glob("*.safetensors"))]
    own = [
        f for f, middle in named if variant and middle and middle[0].split("-")[0] == variant
    ]  # model.fp16-00001-of-00002
    return own or [f for f, middle in named if not middle]


def _refuse_without(spec: DiffusersSpec, name: str, part: Component) -> None:
    key = f"parts.{name}" if name in spec.parts else "weights"
    if pickles := [
        file.name for ending in _PICKLES for file in sorted(part.folder.glob(f"*{ending}"))
    ]:
        advice = (
            "loading it can run code, so it is refused: convert it to safetensors, or take a"
            " revision that has them"
        )
        raise spec.error(
            key, f"{part.folder} has its weights as a pickle alone ({pickles[0]}); {advice}."
        )
    if (part.folder / "config.json").is_file() and "tokenizer" not in name:
        raise spec.error(
            key,
            f"there is no safetensors file in {part.folder}; put the weights of the {name} there.",
        )


def _elements(spec: DiffusersSpec, file: Path) -> int:
    """Numbers in a file of weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            return sum(prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise spec.error(
            "weights", f"{file} is damaged ({error}); fetch or make it again."
        ) from error


def _check_memory(spec: DiffusersSpec, needed: int, device: str) -> None:
    free = free_bytes(device)
    if free is not None and needed > free:
        has = (
            f"its weights take {needed / 1e9:.1f} GB in {spec.dtype}, and {device} has"
            f" {free / 1e9:.1f} GB free"
        )
        raise spec.error("weights", f"{has}: free some, or take another device or a smaller dtype.")


def _class_of(spec: DiffusersSpec, part: Component) -> Any:
    """The class of a part of diffusers, as its own configuration has it where that says one."""
    configs = [part.folder / name for name in ("config.json", "scheduler_config.json")]
    own = next(
        (
            json.loads(c.read_text(encoding="utf-8")).get("_class_name")
            for c in configs
            if c.is_file()
        ),
        None,
    )
    name = own or part.class_name
    return diffusers_class(spec, "weights", name, name)
