"""Loads a pipeline from its own weights and the parts that replace some of them; what another
generator has loaded is shared.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.diffusion.lora import add_lora, lora_parts
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.weights import (
    diffusers_class,
    lora_place,
    part_place,
    weights_folder,
)

_OWN = ("scheduler",)
"""Parts with a state, which every generator has for itself."""


@dataclass(frozen=True)
class Component:
    """A part of a pipeline: the class that model_index.json names, its folder, and the file of its
    weights where that is apart.
    """

    library: str
    class_name: str
    folder: Path
    file: Path | None = None


def components(spec: DiffusersSpec, folder: Path) -> dict[str, Component]:
    """The parts of a pipeline by name, fetched where they come from the hub.

    Raises:
        InputError: a part is not to be had.
    """
    root = weights_folder(spec, folder)
    index = {
        name: entry
        for name, entry in read_index(root).items()
        if isinstance(entry, list) and entry[0]
    }
    if unknown := [name for name in spec.parts if name not in index]:
        raise spec.error(
            f"parts.{unknown[0]}", f"{spec.pipeline} has no such part; it has {', '.join(index)}."
        )
    places = {
        name: part_place(spec, name, folder, root) if name in spec.parts else (root / name, None)
        for name in index
    }
    return {name: Component(entry[0], entry[1], *places[name]) for name, entry in index.items()}


def read_index(root: Path) -> dict[str, Any]:
    """What model_index.json says: ``[library, class]`` by part, ``[null, null]`` for parts that are
    not there, and options.
    """
    index: dict[str, Any] = json.loads((root / "model_index.json").read_text(encoding="utf-8"))
    return index


def part_keys(spec: DiffusersSpec, folder: Path) -> dict[str, Hashable]:
    """What identifies, in a memory, each part that generators may share: its files, and how they
    are loaded.

    A part that an adapter changes is another one than the plain part: its key holds the adapter
    too, and what else that is added to, so that of the parts of one adapter either all are in a
    memory or none, and none has it twice.

    Raises:
        InputError: a part or the adapter is not to be had.
    """
    found = components(spec, folder)
    keys: dict[str, Hashable] = {
        n: (c.folder.resolve(), c.file, spec.variant, spec.dtype)
        for n, c in found.items()
        if n not in _OWN
    }
    changed = {name: keys[name] for name in sorted(lora_parts(spec, folder) & keys.keys())}
    adapter = (lora_place(spec, folder), spec.lora and spec.lora.scale, *changed.values())
    return keys | {name: (key, adapter) for name, key in changed.items()}


def load(spec: DiffusersSpec, folder: Path, memory: DeviceMemory) -> Any:
    """The pipeline, silent, from safetensors alone; its parts stay in the memory.

    Raises:
        InputError: weights, configuration or classes are not to be had, or the adapter does not fit
            them.
    """
    cls = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    root, found, keys = (
        weights_folder(spec, folder),
        components(spec, folder),
        part_keys(spec, folder),
    )
    shared = {name: memory.parts[key] for name, key in keys.items() if key in memory.parts}
    _silence()
    try:
        own = {name: _load_part(spec, found[name]) for name in spec.parts if name not in shared}
        pipeline = cls.from_pretrained(root, **_options(spec), **shared, **own)
    except (OSError, ValueError, RuntimeError) as error:
        raise spec.error(
            "weights",
            f"cannot load {spec.pipeline} from {root}: {' '.join(str(error).split()).rstrip('.')}.",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    if spec.lora and not shared.keys() & lora_parts(spec, folder):
        add_lora(spec, folder, pipeline)
    for name, key in keys.items():
        memory.parts[key] = _channels_last(name, getattr(pipeline, name))
    return pipeline


def _options(spec: DiffusersSpec) -> dict[str, Any]:
    """Of every ``from_pretrained``."""
    return {"dtype": getattr(torch, spec.dtype), "variant": spec.variant, "use_safetensors": True}


def _load_part(spec: DiffusersSpec, component: Component) -> Any:
    """A replaced part: of the class that its own configuration names, in diffusers' format or in
    transformers'.
    """
    config = json.loads((component.folder / "config.json").read_text(encoding="utf-8"))
    cls = getattr(import_module(component.library), config.get("_class_name", component.class_name))
    read = partial(
        cls.from_pretrained,
        **{k: v for k, v in _options(spec).items() if k != "variant" or component.file is None},
    )
    if component.file is None:
        return read(component.folder)
    with (
        tempfile.TemporaryDirectory() as both
    ):  # the file under the name, and beside the configuration, that the library looks for
        (Path(both) / "config.json").symlink_to((component.folder / "config.json").resolve())
        (Path(both) / "diffusion_pytorch_model.safetensors").symlink_to(component.file.resolve())
        return read(both)


def _silence() -> None:
    import diffusers
    import transformers

    libraries: tuple[Any, ...] = (diffusers, transformers)
    for library in libraries:
        library.utils.logging.disable_progress_bar()


def _channels_last(name: str, part: Any) -> Any:
    """Convolutions of images run 10 to 30 per cent faster in this memory format, on the CPU too;
    those of video do not have it.
    """
    flat = name in ("unet", "vae") and all(p.dim() < 5 for p in part.parameters())
    return part.to(memory_format=torch.channels_last) if flat else part
