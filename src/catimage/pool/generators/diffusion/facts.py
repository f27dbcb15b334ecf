"""What is known of a diffusion generator before it is loaded, without asking the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from catimage.common.hashing import folder_digest
from catimage.pool.generators.diffusion.counting import run_dry
from catimage.pool.generators.diffusion.dry import DECODER, Dry, dry_pipeline
from catimage.pool.generators.diffusion.spec import DiffusersSpec, WeightsSource
from catimage.pool.generators.diffusion.weights import local_weights
from catimage.pool.kind import GeneratorFacts


def generator_facts(spec: DiffusersSpec, folder: Path) -> GeneratorFacts:
    """Revisions, bytes of its weights, memory for one image, and what of its weights is not on this
    machine.

    Memory is an estimate: the weights of all parts in the generator's dtype, and twice the numbers
    that the largest convolution or projection reads and writes (a residual block holds its input
    meanwhile). Attention is taken to need no room of its own.

    Raises:
        InputError: its configuration files are not on this machine, or say what cannot be.
    """
    if spec.configuration is None and local_weights(spec, folder) is None and _cached(spec) is None:
        raise spec.error(
            "weights",
            f"the configuration files of {spec.weights!r} are not on this machine, so nothing can"
            " be counted.",
        )
    dry = dry_pipeline(spec, folder)
    size = getattr(torch, spec.dtype).itemsize
    weights = sum(p.numel() for model in dry.models.values() for p in model.parameters()) * size
    return GeneratorFacts(
        _revision(spec, folder),
        weights,
        weights + 2 * _largest(spec, dry, size),
        "; ".join(_missing(spec, folder, dry)),
    )


def _largest(spec: DiffusersSpec, dry: Dry, size: int) -> int:
    """Bytes that the largest layer reads and writes. Decoders that overflow in half precision run
    in single precision.
    """
    decoder = getattr(dry.models.get(DECODER), "config", {})
    upcast = spec.dtype == "float16" and decoder.get("force_upcast", False)
    fewest, most = spec.steps or (1, 2)
    work = run_dry(
        spec, max(fewest, min(2, most)), dry
    )  # one step alone is no number of steps to some schedulers
    return max(w.largest * (4 if upcast and part == DECODER else size) for part, w in work)


def _sources(spec: DiffusersSpec) -> dict[str, DiffusersSpec | WeightsSource]:
    return {"": spec, **spec.parts, **({"lora": spec.lora} if spec.lora else {})}


def _revision(spec: DiffusersSpec, folder: Path) -> str:
    """Of a hub id its revision, of a folder the start of its content's digest; likewise of each
    replaced part and of the adapter.
    """
    return " ".join(
        f"{name}{'=' if name else ''}{_short(source, folder)}"
        for name, source in _sources(spec).items()
    )


def _short(source: DiffusersSpec | WeightsSource, folder: Path) -> str:
    path = folder / source.weights
    return (
        folder_digest(path, (".json", ".safetensors"))[:12]
        if path.is_dir()
        else str(source.revision)[:12]
    )


def _missing(spec: DiffusersSpec, folder: Path, dry: Dry) -> Iterator[str]:
    """What has no weights on this machine, in words."""
    wanted = [name for name in dry.models if name not in spec.parts]
    for name, source in _sources(spec).items():
        root = folder / source.weights if (folder / source.weights).is_dir() else _cached(source)
        if root is None:
            yield f"{name} not in the hub's cache".lstrip()
            continue
        patterns = [f"{part}/*.safetensors" for part in wanted] if not name else [_pattern(source)]
        absent = [pattern for pattern in patterns if not any(root.glob(pattern))]
        if absent:
            yield f"{root} has no {', '.join(absent)}"


def _pattern(part: Any) -> str:
    return "/".join(piece for piece in (part.subfolder, part.file or "*.safetensors") if piece)


def _cached(source: DiffusersSpec | WeightsSource) -> Path | None:
    """The folder of a hub id in the hub's cache, if any of its files are there: what is not used of
    a repository is not fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                source.weights, revision=source.revision, allow_patterns=[], local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None
