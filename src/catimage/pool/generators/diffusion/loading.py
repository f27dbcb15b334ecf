"""Loads pipelines from weights, replacement parts and adapters.

Generators share common parts.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Hashable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from catimage.common.files import check_undamaged
from catimage.errors import InputError, error_summary
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.generators.diffusion.classes import (
    SAFETY_CHECKER,
    PartClass,
    diffusers_class,
    part_class,
    used_parts,
)
from catimage.pool.generators.diffusion.lora import fuse_lora, lora_parts
from catimage.pool.generators.diffusion.sampling import default_scheduler
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.weights import lora_file, part_files, weights_folder

_STATEFUL_PARTS = ("scheduler",)
"""Parts that are not shared, because they have a state."""


@dataclass(frozen=True)
class Component:
    """One part of a pipeline, such as the UNet (a component, in the terms of diffusers).

    Attributes:
        part_class: library and name of the part's class, from model_index.json.
        folder: folder of the part's configuration.
        file: file of the part's weights; None if the weights are in ``folder``.
    """

    part_class: PartClass
    folder: Path
    file: Path | None = None


def components(spec: DiffusersSpec, folder: Path) -> dict[str, Component]:
    """Return the parts of a pipeline by name, downloaded if necessary.

    Raises:
        InputError: a part is unavailable, unknown or needed but left out.
    """
    pipeline = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    root, replaced = weights_folder(spec, folder), spec.replaced_parts
    classes = used_parts(spec, pipeline, root)
    files = {
        name: part_files(spec, name, folder, root) if name in replaced else (root / name, None)
        for name in classes
    }
    return {name: Component(entry, *files[name]) for name, entry in classes.items()}


def part_keys(spec: DiffusersSpec, folder: Path) -> dict[str, Hashable]:
    """Return the keys of the parts in :attr:`DeviceMemory.parts`: their files, variant and dtype.

    The key of a part that an adapter changes also contains the adapter and the keys of all parts
    that the adapter changes. ``DeviceMemory.parts`` therefore has either all or none of the changed
    parts, and an adapter is never added twice to a part.

    Raises:
        InputError: a part or the adapter is unavailable.
    """
    keys: dict[str, Hashable] = {
        name: (component.folder.resolve(), component.file, spec.variant, spec.dtype)
        for name, component in components(spec, folder).items()
        if name not in _STATEFUL_PARTS
    }
    changed = {name: keys[name] for name in sorted(lora_parts(spec, folder) & keys.keys())}
    adapter = (lora_file(spec, folder), spec.lora and spec.lora.scale, *changed.values())
    return keys | {name: (key, adapter) for name, key in changed.items()}


def load_pipeline(spec: DiffusersSpec, folder: Path, memory: DeviceMemory) -> Any:
    """Load the parts of the pipeline that are not in ``memory``, from safetensors files only.

    Afterwards, all parts are in ``memory.parts``. Progress bars are disabled.

    Raises:
        InputError: weights, configuration or classes are unavailable, or the adapter is
            incompatible with the pipeline.
    """
    cls = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    root, keys = weights_folder(spec, folder), part_keys(spec, folder)
    parts = components(spec, folder)
    shared = {name: memory.parts[key] for name, key in keys.items() if key in memory.parts}
    _quieten_libraries()
    try:
        missing = [name for name in spec.replaced_parts if name not in shared]
        replacements = {name: _load_part(spec, name, parts[name]) for name in missing}
        options = _options(spec) | _changed_parts(spec, cls, parts)
        pipeline = cls.from_pretrained(root, **options, **shared, **replacements)
    except InputError:
        raise
    except Exception as error:  # libraries raise exceptions of any type for unsuitable weights
        check_undamaged(root)
        raise spec.error(
            "weights",
            f"cannot load {spec.pipeline} from {root} ({error_summary(error)}). Correct the"
            " weights or the generator's settings.",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    if spec.lora and not shared.keys() & lora_parts(spec, folder):
        fuse_lora(spec, folder, pipeline)
    for name, key in keys.items():
        memory.parts[key] = _channels_last(name, getattr(pipeline, name))
    return pipeline


def _options(spec: DiffusersSpec) -> dict[str, Any]:
    """Return the arguments that all calls of ``from_pretrained`` have in common."""
    return {"dtype": getattr(torch, spec.dtype), "variant": spec.variant, "use_safetensors": True}


def _changed_parts(
    spec: DiffusersSpec, cls: type[Any], parts: dict[str, Component]
) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` for parts that are left out or corrected.

    If the configuration of the weights' scheduler is invalid and the settings of the generator
    correct it, the scheduler is one of the arguments.
    """
    changed: dict[str, Any] = dict.fromkeys(spec.omitted_parts)
    if (
        SAFETY_CHECKER in changed
        and "requires_safety_checker" in signature(cls.__init__).parameters
    ):
        changed["requires_safety_checker"] = False
    if "scheduler" in parts:
        scheduler = parts["scheduler"]
        of_weights = part_class(spec, "scheduler", scheduler.part_class)
        corrected, scheduler_of_weights = default_scheduler(spec, of_weights, scheduler.folder)
        changed |= {"scheduler": scheduler_of_weights} if corrected else {}
    return changed


def _load_part(spec: DiffusersSpec, name: str, component: Component) -> Any:
    """Load a replacement part with the class that its configuration names."""
    config = json.loads((component.folder / "config.json").read_text(encoding="utf-8"))
    entry = component.part_class
    class_name = config.get("_class_name", entry.class_name)
    cls = part_class(spec, name, PartClass(entry.library, class_name))
    options = _options(spec)
    if component.file is None:
        return cls.from_pretrained(component.folder, **options)
    del options["variant"]
    # diffusers requires a file of weights with this name, in the folder of the configuration.
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").symlink_to((component.folder / "config.json").resolve())
        weights = Path(folder) / "diffusion_pytorch_model.safetensors"
        weights.symlink_to(component.file.resolve())
        return cls.from_pretrained(folder, **options)


def _quieten_libraries() -> None:
    """Disable progress bars, and hide a message that prints all layers of a shared part."""
    import diffusers
    import transformers

    libraries: tuple[Any, ...] = (diffusers, transformers)
    for library in libraries:
        library.utils.logging.disable_progress_bar()
    logging.getLogger("diffusers.pipelines.pipeline_loading_utils").addFilter(_is_shown)


def _is_shown(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("You have passed a non-standard module")


def _channels_last(name: str, part: Any) -> Any:
    """Set the memory format of a part with 2-D convolutions to channels-last.

    Generation is then 10 to 30 per cent faster, also on the CPU. 3-D convolutions do not support
    the format.
    """
    is_2d = name in ("unet", "vae") and all(p.dim() < 5 for p in part.parameters())
    return part.to(memory_format=torch.channels_last) if is_2d else part
