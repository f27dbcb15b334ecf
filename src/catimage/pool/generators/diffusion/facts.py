"""Properties of a diffusion generator that are available offline and without loading weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from catimage.common.hashing import folder_digest
from catimage.pool.generators.diffusion.meta_pipeline import MetaPipeline, meta_pipeline
from catimage.pool.generators.diffusion.meta_run import run_pipeline
from catimage.pool.generators.diffusion.meter import DECODER
from catimage.pool.generators.diffusion.sources import AnySource, cached_folder, local_folder
from catimage.pool.generators.diffusion.spec import DiffusersSpec
from catimage.pool.kind import GeneratorFacts

_REVISION_LENGTH = 12


def generator_facts(spec: DiffusersSpec, folder: Path) -> GeneratorFacts:
    """Return the revisions, the bytes of weights and memory, and the missing weights.

    The memory for one image is an estimate: the weights of all parts in the generator's dtype, and
    twice the elements that the largest convolution or projection reads and writes, since a residual
    block keeps its input. Attention is assumed to use no additional memory.

    Raises:
        InputError: the configuration files are not found on this machine, or are invalid.
    """
    check_sources(spec, folder)
    meta = meta_pipeline(spec, folder)
    itemsize = getattr(torch, spec.dtype).itemsize
    parameters = [p.numel() for model in meta.models.values() for p in model.parameters()]
    weights = sum(parameters) * itemsize
    return GeneratorFacts(
        revision=_revision(spec, folder),
        weight_bytes=weights,
        memory_bytes=weights + 2 * _largest_layer(spec, meta, itemsize),
        missing="; ".join(_missing_weights(spec, folder, meta)),
    )


def check_sources(spec: DiffusersSpec, folder: Path) -> None:
    """Check that all weights are folders or hub ids, and that the configuration is available.

    Raises:
        InputError: a source is neither a folder nor a hub id with a revision, or the configuration
            files are not found on this machine.
    """
    local = local_folder(spec, "weights", spec, folder)
    for name, source in _sources(spec).items():
        if name:
            local_folder(spec, _key(name), source, folder)
    if spec.configuration is None and local is None and cached_folder(spec) is None:
        raise spec.error(
            "weights",
            f"the configuration files of {spec.weights!r} are not on this machine, so costs and"
            " memory cannot be computed. Download them from the hub, or set 'configuration'.",
        )


def _largest_layer(spec: DiffusersSpec, meta: MetaPipeline, itemsize: int) -> int:
    """Return the bytes that the largest layer reads and writes.

    A decoder that overflows in float16 (``force_upcast``) runs in float32.
    """
    decoder = getattr(meta.models.get(DECODER), "config", {})
    upcast = spec.dtype == "float16" and decoder.get("force_upcast", False)
    smallest, largest = spec.steps or (1, 2)
    steps = max(smallest, min(2, largest))  # some schedulers do not support a single step
    return max(
        cost.largest * (4 if upcast and part == DECODER else itemsize)
        for part, cost in run_pipeline(spec, steps, meta)
    )


def _sources(spec: DiffusersSpec) -> dict[str, AnySource]:
    """Return the sources of weights by part; the key of the generator's own weights is empty."""
    return {"": spec, **spec.replaced_parts, **({"lora": spec.lora} if spec.lora else {})}


def _key(name: str) -> str:
    """Return the key of a source in the generator's entry."""
    return "lora.weights" if name == "lora" else f"parts.{name}.weights"


def _revision(spec: DiffusersSpec, folder: Path) -> str:
    """Return the shortened revision (hub id) or digest (folder) of each source."""
    revisions = []
    for name, source in _sources(spec).items():
        path = folder / source.weights
        is_local = path.is_dir()
        revision = folder_digest(path, (".json", ".safetensors")) if is_local else source.revision
        prefix = f"{name}=" if name else ""
        revisions.append(f"{prefix}{str(revision)[:_REVISION_LENGTH]}")
    return " ".join(revisions)


def _missing_weights(spec: DiffusersSpec, folder: Path, meta: MetaPipeline) -> Iterator[str]:
    """Yield a description of each source whose weights are not on this machine."""
    own_parts = [name for name in meta.models if name not in spec.replaced_parts]
    for name, source in _sources(spec).items():
        local = folder / source.weights
        root = local if local.is_dir() else cached_folder(source)
        if root is None:
            yield f"{name} not in the hub's cache".lstrip()
            continue
        patterns = [f"{part}/*.safetensors" for part in own_parts] if not name else [_glob(source)]
        absent = [pattern for pattern in patterns if not any(root.glob(pattern))]
        if absent:
            yield f"{', '.join(absent)} not found in {root}"


def _glob(source: AnySource) -> str:
    """Return the glob pattern of the weights of a part or an adapter in the source's folder."""
    file = getattr(source, "file", None) or "*.safetensors"
    subfolder = getattr(source, "subfolder", None)
    return f"{subfolder}/{file}" if subfolder else file
