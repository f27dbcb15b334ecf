"""Pipelines on torch's meta device, for counting: tensors have shapes, but no values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from catimage.pool.generators.diffusion.meter import DECODER, CostMeter
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.weights import config_folder, diffusers_class

DEFAULT_CONTEXT = 512
"""Context of a text encoder whose configuration has no ``max_position_embeddings``."""


@dataclass(frozen=True)
class MetaPipeline:
    """A pipeline without weights.

    Attributes:
        pipeline: the pipeline. Inputs and outputs of its models are CPU tensors of zeros.
        meter: records the cost of each call of a model.
        models: models by name of the part.
        scheduler: the scheduler, with the settings of the configuration.
    """

    pipeline: Any
    meter: CostMeter
    models: dict[str, Any]
    scheduler: Any


class _WordTokenizer:
    """Stands in for a tokenizer: one token per word or punctuation mark, padded as requested."""

    added_tokens_encoder: dict[str, int] = {}  # noqa: RUF012 (an attribute of tokenizers)

    def __init__(self, context: int) -> None:
        self.model_max_length = context

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]", text)

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        return str(messages)

    def batch_decode(self, tokens: Any) -> list[str]:
        return [""] * len(tokens)

    def __call__(
        self,
        text: str | list[str],
        padding: Any = False,
        max_length: int | None = None,
        **options: Any,
    ) -> Any:
        from transformers import BatchEncoding

        texts = [text] if isinstance(text, str) else text
        longest = max(len(self.tokenize(text)) for text in texts)
        length = min(longest, max_length or longest)
        if padding == "max_length" and max_length:
            length = max_length
        mask = (torch.arange(length) < longest).long()
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        return BatchEncoding({"input_ids": ids, "attention_mask": mask.expand_as(ids)})


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
            f"there is no file {path / 'model_index.json'}. Correct the path, or remove"
            " 'configuration'.",
        )
    return path


def meta_pipeline(spec: DiffusersSpec, folder: Path) -> MetaPipeline:
    """Return a generator's pipeline without weights. The last four pipelines are cached.

    Raises:
        InputError: configuration files are unavailable.
    """
    root = configuration_folder(spec, folder)
    cls = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    folders = tuple((name, _part_folder(spec, name, folder, root)) for name in _classes(root))
    return _build_pipeline(cls, root, folders)


@lru_cache(maxsize=4)
def _build_pipeline(
    cls: type[Any], root: Path, folders: tuple[tuple[str, Path], ...]
) -> MetaPipeline:
    """Build the pipeline from the class, the folder of model_index.json, and those of the parts."""
    classes, meter = _classes(root), CostMeter()
    with torch.device("meta"):
        models = {
            name: _model(classes[name], folder)
            for name, folder in folders
            if (folder / "config.json").is_file()
        }
    for part, model in models.items():
        meter.attach(part, model, "decode" if part == DECODER else "forward")
        for layer in model.modules():
            # FLUX.2 reads the statistics of a batch normalization layer without calling it.
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.to_empty(device="cpu")
    others = {
        name: _other_part(entry, name, root, models)
        for name, entry in classes.items()
        if name not in models
    }
    on_cpu = {
        "_execution_device": property(lambda self: torch.device("cpu")),
        "__module__": cls.__module__,
    }
    pipeline = type(cls.__name__, (cls,), on_cpu)(**models, **others, **_options(root))
    pipeline.set_progress_bar_config(disable=True)
    return MetaPipeline(pipeline, meter, models, others["scheduler"])


def _read_index(root: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((root / "model_index.json").read_text(encoding="utf-8"))
    return {name: value for name, value in tree.items() if not name.startswith("_")}


def _classes(root: Path) -> dict[str, list[str | None]]:
    """Return library and class of every part; both are None for parts that are not used."""
    return {name: value for name, value in _read_index(root).items() if isinstance(value, list)}


def _options(root: Path) -> dict[str, Any]:
    """Return the options of the pipeline: the entries of model_index.json that are not parts."""
    return {name: value for name, value in _read_index(root).items() if not isinstance(value, list)}


def _part_folder(spec: DiffusersSpec, name: str, folder: Path, root: Path) -> Path:
    """Return the folder of a part's configuration.

    The folder is in the part's own source if that is a local folder, else in the pipeline's folder
    ``root``.
    """
    part = spec.parts.get(name)
    source = folder / part.weights / (part.subfolder or "") if part else root / name
    return source if (source / "config.json").is_file() else root / name


def _model(entry: list[Any], folder: Path) -> Any:
    """Build the model of a part from its configuration.

    The class is that in the configuration, else that in model_index.json (``entry``).
    """
    library = import_module(entry[0])
    if entry[0] == "diffusers":
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        cls = getattr(library, config.get("_class_name", entry[1]))
        return cls.from_config(cls.load_config(folder)).eval()
    cls = getattr(library, entry[1])
    return cls(cls.config_class.from_pretrained(folder)).eval()


def _other_part(entry: list[Any], name: str, root: Path, models: dict[str, Any]) -> Any:
    """Return the scheduler, or a stand-in for a tokenizer; None for any other part."""
    if entry[0] is None or entry[1] is None:
        return None
    if name == "scheduler":
        cls = getattr(import_module("diffusers"), entry[1])
        return cls.from_config(cls.load_config(root / name))
    if "tokenizer" in name:
        encoder = models.get(name.replace("tokenizer", "text_encoder"))
        config = getattr(encoder, "config", None)
        return _WordTokenizer(getattr(config, "max_position_embeddings", DEFAULT_CONTEXT))
    return None
