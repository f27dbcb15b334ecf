"""Pipelines on torch's meta device, for counting: tensors have shapes, but no values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from catimage.errors import InputError, error_summary
from catimage.pool.generators.diffusion.classes import (
    SAFETY_CHECKER,
    PartClass,
    diffusers_class,
    part_class,
    read_index,
    used_parts,
)
from catimage.pool.generators.diffusion.meter import DECODER, DENOISERS, CostMeter
from catimage.pool.generators.diffusion.sampling import default_scheduler
from catimage.pool.generators.diffusion.settings import PipelineClasses
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.tokenizer import placeholder_tokenizer
from catimage.pool.generators.diffusion.weights import config_folder


@dataclass(frozen=True)
class MetaPipeline:
    """A pipeline without weights.

    Attributes:
        pipeline: the pipeline. Inputs and outputs of its models are CPU tensors of zeros.
        meter: records the cost of each call of a model.
        models: models by name of the part. The safety checker is one of them, but not a part of
            ``pipeline``: its operations are not counted.
        scheduler: the scheduler, with the settings of the configuration.
        classes: the classes of the pipeline and the denoiser.
    """

    pipeline: Any
    meter: CostMeter
    models: dict[str, Any]
    scheduler: Any
    classes: PipelineClasses


@dataclass(frozen=True)
class _Model:
    """A part with a model: its name, its class, and the folder of its configuration."""

    name: str
    cls: type[Any]
    folder: Path


@dataclass(frozen=True)
class _Scheduler:
    """A scheduler that is compared by its class and configuration."""

    text: str
    scheduler: Any = field(compare=False)


def configuration_folder(spec: DiffusersSpec, folder: Path) -> Path:
    """Return the folder of a generator's configuration files.

    The folder is the generator's ``configuration`` if it is set, else the local folder of the
    weights, else a folder in the hub's cache to which only configuration files are downloaded.

    Raises:
        InputError: the files are not found.
    """
    if spec.configuration is None:
        return config_folder(spec, folder)
    path = folder / spec.configuration
    if not (path / "model_index.json").is_file():
        raise spec.error(
            "configuration",
            f"the file {path / 'model_index.json'} is not found. Correct the path, or remove"
            " 'configuration'.",
        )
    return path


def meta_pipeline(spec: DiffusersSpec, folder: Path) -> MetaPipeline:
    """Return a generator's pipeline without weights. The last four pipelines are cached.

    Raises:
        InputError: configuration files are unavailable, invalid, or not those of the pipeline.
    """
    root = configuration_folder(spec, folder)
    cls = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    try:
        return _meta_pipeline(spec, cls, folder, root)
    except InputError:
        raise
    except Exception as error:  # libraries raise exceptions of any type for invalid configurations
        key = "weights" if spec.configuration is None else "configuration"
        raise spec.error(
            key,
            f"cannot build {spec.pipeline} from the configuration files in {root}"
            f" ({error_summary(error)}). Correct 'pipeline' or the files.",
        ) from error


def _meta_pipeline(spec: DiffusersSpec, cls: Any, folder: Path, root: Path) -> MetaPipeline:
    """Return the pipeline of the class ``cls`` with the configuration files in ``root``."""
    parts, index = used_parts(spec, cls, root), read_index(spec, root)
    models = tuple(
        _Model(name, _model_class(spec, name, entry, part_folder), part_folder)
        for name, entry in parts.items()
        if _is_model(name, part_folder := _part_folder(spec, name, folder, root))
    )
    scheduler = None
    if "scheduler" in parts:
        scheduler_class = part_class(spec, "scheduler", parts["scheduler"])
        scheduler = default_scheduler(spec, scheduler_class, root / "scheduler")[1]
    text = f"{type(scheduler).__name__} {getattr(scheduler, 'config', '')}"
    expected, options = cls._get_signature_keys(cls)
    tokenizers = [name for name in parts if "tokenizer" in name]
    return _build_pipeline(
        cls,
        models,
        _Scheduler(text, scheduler),
        tuple(tokenizers),
        tuple(expected),
        json.dumps({name: _option(name, index[name]) for name in options if name in index}),
    )


def _is_model(name: str, folder: Path) -> bool:
    """Return whether a part is a model, not a tokenizer or a processor of images."""
    is_other = any(word in name for word in ("tokenizer", "extractor", "processor"))
    return not is_other and (folder / "config.json").is_file()


def _option(name: str, value: Any) -> Any:
    """Return the value of an option; no safety checker is required, which prevents a warning."""
    return False if name == "requires_safety_checker" else value


def _attached_meter(models: dict[str, Any]) -> CostMeter:
    """Return a meter that counts the operations of the models."""
    meter = CostMeter()
    for part, model in models.items():
        meter.attach(part, model, "decode" if part == DECODER else "forward")
        for layer in model.modules():
            # FLUX.2 reads the statistics of a batch normalization layer without calling it.
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.to_empty(device="cpu")
    return meter


@lru_cache(maxsize=4)
def _build_pipeline(
    cls: type[Any],
    models: tuple[_Model, ...],
    scheduler: _Scheduler,
    tokenizers: tuple[str, ...],
    expected: tuple[str, ...],
    options: str,
) -> MetaPipeline:
    """Build a pipeline.

    Args:
        cls: class of the pipeline.
        models: the parts with models.
        scheduler: the scheduler of the weights.
        tokenizers: names of the tokenizers, for which placeholders are used.
        expected: names of all parts of the pipeline.
        options: values of the options of the pipeline by name, as JSON.
    """
    with torch.device("meta"):
        built = {model.name: _build_model(model) for model in models}
    meter = _attached_meter(built)
    placeholders = {name: placeholder_tokenizer(name, built) for name in tokenizers}
    parts = dict.fromkeys(expected) | placeholders | built
    parts |= {SAFETY_CHECKER: None, "scheduler": scheduler.scheduler}
    on_cpu = {
        "_execution_device": property(lambda self: torch.device("cpu")),
        "__module__": cls.__module__,
    }
    pipeline = type(cls.__name__, (cls,), on_cpu)(
        **{name: parts[name] for name in expected},
        **json.loads(options),
    )
    pipeline.set_progress_bar_config(disable=True)
    denoisers = [model.cls for model in models if model.name in DENOISERS]
    classes = PipelineClasses(cls, denoisers[0] if denoisers else type(None), scheduler.scheduler)
    return MetaPipeline(pipeline, meter, built, scheduler.scheduler, classes)


def _part_folder(spec: DiffusersSpec, name: str, folder: Path, root: Path) -> Path:
    """Return the folder of a part's configuration.

    The folder is in the part's own source if that is a local folder, else in the pipeline's folder
    ``root``.
    """
    part = spec.parts.get(name)
    source = folder / part.weights / (part.subfolder or "") if part else root / name
    return source if (source / "config.json").is_file() else root / name


def _model_class(spec: DiffusersSpec, name: str, entry: PartClass, folder: Path) -> Any:
    """Return the class of a model: that in its configuration, else that in model_index.json."""
    if entry.library == "diffusers":
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        entry = PartClass("diffusers", config.get("_class_name", entry.class_name))
    return part_class(spec, name, entry)


def _build_model(model: _Model) -> Any:
    """Build a model from its configuration."""
    if hasattr(model.cls, "load_config"):  # a model of diffusers
        return model.cls.from_config(model.cls.load_config(model.folder)).eval()
    config = model.cls.config_class.from_pretrained(model.folder)
    if "empty_init" in signature(model.cls.__init__).parameters:
        return model.cls(config, empty_init=False).eval()  # ChatGLM: else its tensors are not meta
    return model.cls(config).eval()
