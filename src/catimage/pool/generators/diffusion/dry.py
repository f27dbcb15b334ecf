"""A dry run: a pipeline's own call, with models that have shapes and no numbers (torch's meta
device), so that its work can be counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from catimage.pool.flops import PROJECTIONS
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.generators.diffusion.weights import config_folder, diffusers_class

PROMPT = " ".join(["word"] * 32)
"""The prompt of a dry run: its length matters to the pipelines that do not pad prompts to a fixed
one (Z-Image, Qwen-Image).
"""

DENOISERS = ("unet", "transformer")
DECODER = "vae"


@dataclass(frozen=True)
class Work:
    """What one call of a part takes: TFLOPs of projections and convolutions, TFLOPs of products of
    activations with each other (attention), images or prompts in the batch, and the numbers that
    the largest layer reads and writes.
    """

    projections: float
    products: float
    rows: int
    largest: int


class _Counter(TorchDispatchMode):
    """Adds up the operations that run within it: a multiply-add is two."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.projections, self.products, self.largest = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operation = func._overloadpacket
        if operation in PROJECTIONS:
            read = args[1] if operation is torch.ops.aten.addmm else args[0]
            self.projections += flop_registry[operation](*args, **(kwargs or {}), out_val=out)
            self.largest = max(self.largest, read.numel() + out.numel())
        elif operation in flop_registry:
            self.products += flop_registry[operation](*args, **(kwargs or {}), out_val=out)
        return out


class Meter:
    """Runs the models of a pipeline on the meta device and keeps the work of each call, by part, in
    ``calls``.

    Calls with inputs of the same shapes are counted once. With a caching method, which is named in
    ``cache``, what a denoiser leaves out depends on the number of the call too.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Work]] = []
        self.cache = ""
        self._seen: dict[str, tuple[Work, Any]] = {}

    def watch(self, part: str, model: Any, method: str) -> None:
        """From now on ``model.method`` takes and gives tensors on the CPU (zeros) and is counted."""
        run = getattr(model, method)

        def metered(*args: Any, **kwargs: Any) -> Any:
            inputs = tree_map(_to_meta, (args, _without_mask(kwargs)))
            key = f"{part} {inputs}" + (
                f" {self.cache} {len(self.of(part))}" if self.cache and part in DENOISERS else ""
            )
            if key not in self._seen:
                self._seen[key] = _counted(run, *inputs)
            work, out = self._seen[key]
            self.calls.append((part, work))
            return tree_map(_to_zeros, out)

        setattr(model, method, metered)

    def of(self, part: str) -> list[Work]:
        """The work of every call of a part, in order."""
        return [work for name, work in self.calls if name == part]


def _counted(
    run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Work, Any]:
    with torch.no_grad(), _Counter() as counter:
        out = run(*args, **kwargs)
    return (
        Work(counter.projections / 1e12, counter.products / 1e12, len(out[0]), counter.largest),
        out,
    )


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


def _to_zeros(value: Any) -> Any:
    return (
        torch.zeros(value.shape, dtype=value.dtype)
        if isinstance(value, torch.Tensor) and value.is_meta
        else value
    )


def _without_mask(kwargs: dict[str, Any]) -> dict[str, Any]:
    """A mask of padding in the form that language models take as it is: the other one they look
    into, and there is nothing in it.
    """
    mask = kwargs.get("attention_mask")
    if not isinstance(mask, torch.Tensor) or mask.dim() != 2:
        return kwargs
    rows, length = mask.shape
    return {**kwargs, "attention_mask": torch.zeros(rows, 1, length, length)}


class _Words:
    """In place of a tokenizer: a token a word or sign, padded as asked."""

    added_tokens_encoder: dict[str, int] = {}  # noqa: RUF012 (as tokenizers have it)

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

        used = max(len(self.tokenize(t)) for t in ([text] if isinstance(text, str) else text))
        length = (
            max_length if padding == "max_length" and max_length else min(used, max_length or used)
        )
        ids = torch.zeros(1 if isinstance(text, str) else len(text), length, dtype=torch.long)
        return BatchEncoding(
            {
                "input_ids": ids,
                "attention_mask": (torch.arange(length) < used).long().expand_as(ids),
            }
        )


def configuration_folder(spec: DiffusersSpec, folder: Path) -> Path:
    """Where a generator's configuration files are: its ``configuration``, its own weights, or the
    hub, of which these files are fetched.

    Raises:
        InputError: there are none.
    """
    if spec.configuration is None:
        return config_folder(spec, folder)
    path = folder / spec.configuration
    if not (path / "model_index.json").is_file():
        raise spec.error(
            "configuration",
            f"there is no {path / 'model_index.json'}; mend the path, or leave 'configuration'"
            " out.",
        )
    return path


@dataclass(frozen=True)
class Dry:
    """A pipeline without weights, the meter of its calls, its models by part, and the scheduler of
    its configuration.
    """

    pipeline: Any
    meter: Meter
    models: dict[str, Any]
    scheduler: Any


def dry_pipeline(spec: DiffusersSpec, folder: Path) -> Dry:
    """The pipeline of a generator without weights; the last few are kept.

    Raises:
        InputError: its configuration files are not to be had.
    """
    root = configuration_folder(spec, folder)
    cls = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    return _built(
        cls, root, tuple((name, _part_folder(spec, name, folder, root)) for name in _index(root))
    )


@lru_cache(maxsize=4)
def _built(cls: type[Any], root: Path, folders: tuple[tuple[str, Path], ...]) -> Dry:
    index, meter = _index(root), Meter()
    with torch.device("meta"):
        models = {
            name: _model(index[name], folder)
            for name, folder in folders
            if (folder / "config.json").is_file()
        }
    for part, model in models.items():
        meter.watch(part, model, "decode" if part == DECODER else "forward")
        for layer in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            layer.to_empty(
                device="cpu"
            )  # FLUX.2 scales its latents with the statistics of one that never runs
    others = {
        name: _other(entry, name, root, models)
        for name, entry in index.items()
        if name not in models
    }
    on_cpu = {
        "_execution_device": property(lambda self: torch.device("cpu")),
        "__module__": cls.__module__,
    }
    pipeline = type(cls.__name__, (cls,), on_cpu)(**models, **others, **_options(root))
    pipeline.set_progress_bar_config(disable=True)
    return Dry(pipeline, meter, models, others["scheduler"])


def _read(root: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((root / "model_index.json").read_text(encoding="utf-8"))
    return {name: value for name, value in tree.items() if not name.startswith("_")}


def _index(root: Path) -> dict[str, list[str | None]]:
    """Library and class of every part; two times None for one that is not there."""
    return {name: value for name, value in _read(root).items() if isinstance(value, list)}


def _options(root: Path) -> dict[str, Any]:
    return {name: value for name, value in _read(root).items() if not isinstance(value, list)}


def _part_folder(spec: DiffusersSpec, name: str, folder: Path, root: Path) -> Path:
    """The folder of a part's configuration: of a part that is replaced, its own where it has one on
    this machine.
    """
    part = spec.parts.get(name)
    own = folder / part.weights / (part.subfolder or "") if part else root / name
    return own if (own / "config.json").is_file() else root / name


def _model(entry: list[Any], folder: Path) -> Any:
    """The model of a part on the current device, of the class that its own configuration names or
    that model_index.json does.
    """
    library = import_module(entry[0])
    if entry[0] == "diffusers":
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get(
            "_class_name", entry[1]
        )
        cls = getattr(library, named)
        return cls.from_config(cls.load_config(folder)).eval()
    cls = getattr(library, entry[1])
    return cls(cls.config_class.from_pretrained(folder)).eval()


def _other(entry: list[Any], name: str, root: Path, models: dict[str, Any]) -> Any:
    """A part that is no model: the scheduler, or what stands in for a tokenizer; None for parts
    that play no part here.
    """
    if entry[0] is None or entry[1] is None:
        return None
    if name == "scheduler":
        cls = getattr(import_module("diffusers"), entry[1])
        return cls.from_config(cls.load_config(root / name))
    encoder = models.get(name.replace("tokenizer", "text_encoder"))
    return (
        _Words(getattr(getattr(encoder, "config", None), "max_position_embeddings", 512))
        if "tokenizer" in name
        else None
    )
