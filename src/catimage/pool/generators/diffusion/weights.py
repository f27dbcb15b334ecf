"""Files of a diffusion generator's weights and configuration, and the identity of the weights.

The identity is the digest of a local folder or the revision of a hub id. Shard plans contain it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from catimage.common.hashing import folder_digest
from catimage.pool.generators.diffusion.classes import diffusers_class
from catimage.pool.generators.diffusion.sources import (
    AnySource,
    download,
    download_file,
    download_files,
    local_folder,
)
from catimage.pool.generators.diffusion.spec import (
    DiffusersSpec,
    Lora,
    PipelinePart,
    WeightsSource,
)

_PIPELINE_SUFFIXES = (".json", ".safetensors", ".txt", ".model")
"""Suffixes of the files in a pipeline's folder that affect its images."""
_CONFIGURATION_PATTERNS = ["*.json", "*.txt"]


def config_folder(spec: DiffusersSpec, folder: Path) -> Path:
    """Return a folder with the pipeline's configuration files.

    For a hub id, only these files are downloaded.

    Raises:
        InputError: the folder is not found or does not contain a pipeline, or the hub is
            unavailable and the files are not in the hub's cache.
    """
    local = local_folder(spec, "weights", spec, folder)
    path = local or download_files(spec, "weights", spec, _CONFIGURATION_PATTERNS)
    return _checked_pipeline_folder(spec, path)


def weights_folder(spec: DiffusersSpec, folder: Path) -> Path:
    """Return the pipeline's folder with its weights, downloaded if necessary.

    Weights of the parts that :attr:`DiffusersSpec.parts` replaces or leaves out are not downloaded.

    Raises:
        InputError: the folder is not found or does not contain a pipeline, or the download fails.
    """
    local = local_folder(spec, "weights", spec, folder)
    if local is not None:
        return _checked_pipeline_folder(spec, local)
    # A small file first, so that errors of the repository are found before a large download.
    download_file(spec, "weights", spec, "model_index.json")
    pipeline = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    replaced = dict.fromkeys(spec.parts)
    options = {"revision": spec.revision, "variant": spec.variant, "use_safetensors": True}
    return download(
        spec, "weights", spec, lambda: pipeline.download(spec.weights, **options, **replaced)
    )


def _checked_pipeline_folder(spec: DiffusersSpec, path: Path) -> Path:
    if not (path / "model_index.json").is_file():
        raise spec.error(
            "weights",
            f"{path} has no model_index.json, so it is not in diffusers' format. Set the folder of"
            " a pipeline.",
        )
    return path


def part_files(
    spec: DiffusersSpec, name: str, folder: Path, root: Path
) -> tuple[Path, Path | None]:
    """Return the files of a part with its own source, downloaded if necessary.

    Args:
        spec: the generator's settings in the pool file.
        name: a part of ``spec.replaced_parts``.
        folder: the folder of the pool file.
        root: the folder of the pipeline, with the configuration of a part that is a single file.

    Returns:
        The folder of the part's configuration, and the file of its weights (None if the folder
        contains the weights).

    Raises:
        InputError: the folder or file is not found, or the download fails.
    """
    part, key = spec.replaced_parts[name], f"parts.{name}.weights"
    if part.file is None:
        return _part_folder(spec, key, part, folder), None
    file = safetensors_file(spec, f"parts.{name}", part, part.file, folder)
    configuration = root / name / "config.json"
    if not configuration.is_file():
        configuration = download_file(spec, "weights", spec, f"{name}/config.json")
    return configuration.parent, file


def _part_folder(spec: DiffusersSpec, key: str, part: PipelinePart, folder: Path) -> Path:
    local, subfolder = local_folder(spec, key, part, folder), part.subfolder or ""
    if local is not None:
        return local / subfolder
    patterns = [f"{subfolder}/*{suffix}".lstrip("/") for suffix in _PIPELINE_SUFFIXES]
    return download_files(spec, key, part, patterns) / subfolder


def safetensors_file(
    spec: DiffusersSpec, key: str, source: WeightsSource, file: str, folder: Path
) -> Path:
    """Return a single file of weights, downloaded if necessary.

    Args:
        spec: the generator's settings in the pool file.
        key: the key of ``source`` in the generator's entry.
        source: the source that contains the file.
        file: path of the file in the source's ``subfolder``.
        folder: the folder of the pool file.

    Raises:
        InputError: the file is not a safetensors file or is not found, or the download fails.
    """
    if not file.endswith(".safetensors"):
        raise spec.error(
            f"{key}.file",
            f"{file!r} is not a safetensors file. Convert it: other formats can run code when they"
            " are loaded.",
        )
    local, subfolder = local_folder(spec, f"{key}.weights", source, folder), source.subfolder or ""
    if local is None:
        name = f"{subfolder}/{file}".lstrip("/")
        return download_file(spec, f"{key}.weights", source, name)
    path = local / subfolder / file
    if not path.is_file():
        raise spec.error(
            f"{key}.file", f"the file {path} is not found. Correct 'file' or 'subfolder'."
        )
    return path


def lora_file(spec: DiffusersSpec, folder: Path) -> Path | None:
    """Return the file of the adapter, downloaded if necessary; None if there is no adapter.

    Raises:
        InputError: the file is not a safetensors file or is not found, or the download fails.
    """
    if spec.lora is None:
        return None
    return safetensors_file(spec, "lora", spec.lora, spec.lora.file, folder)


def identity(spec: DiffusersSpec, folder: Path) -> dict[str, Any]:
    """Return the identity of all weights: digests of folders, revisions of hub ids.

    The identity of an adapter also contains the adapter's scale.

    Raises:
        InputError: the weights are not found.
    """
    result: dict[str, Any] = {"weights": _source_identity(spec, "weights", spec, folder)}
    if spec.parts:
        result["parts"] = {
            name: part and _source_identity(spec, f"parts.{name}.weights", part, folder)
            for name, part in spec.parts.items()
        }
    if spec.lora:
        weights = _lora_identity(spec, spec.lora, folder)
        result["lora"] = {"weights": weights, "scale": spec.lora.scale}
    return result


def _source_identity(spec: DiffusersSpec, key: str, source: AnySource, folder: Path) -> str:
    """Return the digest of a folder or the revision of a hub id, with subfolder and file."""
    path = local_folder(spec, key, source, folder)
    weights = (
        folder_digest(path, _PIPELINE_SUFFIXES) if path else f"{source.weights}@{source.revision}"
    )
    location = [getattr(source, name, None) for name in ("subfolder", "file")]
    return " ".join([weights, *(str(value) for value in location if value)])


def _lora_identity(spec: DiffusersSpec, lora: Lora, folder: Path) -> str:
    """Return the digest of the adapter's file or, for a hub id, the revision and the path."""
    if local_folder(spec, "lora.weights", lora, folder) is None:
        return _source_identity(spec, "lora.weights", lora, folder)
    with safetensors_file(spec, "lora", lora, lora.file, folder).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
