"""Where a generator's weights and configuration come from, and what identifies them in a shard's
plan.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from catimage.common.hashing import folder_digest
from catimage.errors import nearest
from catimage.pool.generators.diffusion.hub import fetched, file_of
from catimage.pool.generators.diffusion.spec import DiffusersSpec, Lora, PipelinePart, WeightsSource

_PARTS = (".json", ".safetensors", ".txt", ".model")
"""What a pipeline's folder is made of; readmes and pictures beside it change nothing."""


def local_weights(spec: DiffusersSpec, folder: Path) -> Path | None:
    """The folder of the weights, or None for a hub id with a revision.

    Raises:
        InputError: neither.
    """
    return _local(spec, "weights", spec, folder)


def _local(
    spec: DiffusersSpec, key: str, source: DiffusersSpec | WeightsSource, folder: Path
) -> Path | None:
    path = folder / source.weights
    if path.is_dir():
        return path
    if source.revision is None:
        raise spec.error(
            key,
            f"there is no folder {path}; put the weights there or, for a hub id, add its"
            " 'revision'.",
        )
    return None


def config_folder(spec: DiffusersSpec, folder: Path) -> Path:
    """A folder with the pipeline's configuration files; of a hub id, these alone are fetched.

    Raises:
        InputError: the folder is not there or is no pipeline, or the hub cannot be reached and has
            not been before.
    """
    path = local_weights(spec, folder) or _fetched_configuration(spec)
    return _pipeline_folder(spec, path)


def _pipeline_folder(spec: DiffusersSpec, path: Path) -> Path:
    if not (path / "model_index.json").is_file():
        raise spec.error(
            "weights",
            f"{path} has no model_index.json, so it is not a folder in diffusers' format.",
        )
    return path


def _fetched_configuration(spec: DiffusersSpec) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt"]
    return fetched(
        spec,
        "weights",
        spec,
        lambda: snapshot_download(spec.weights, revision=spec.revision, allow_patterns=patterns),
    )


def weights_folder(spec: DiffusersSpec, folder: Path) -> Path:
    """The pipeline's folder with its weights; of a hub id, what :attr:`DiffusersSpec.parts` does
    not replace is fetched.

    Raises:
        InputError: there is no such folder, it is no pipeline, or the hub does not give it.
    """
    local = local_weights(spec, folder)
    if local is not None:
        return _pipeline_folder(spec, local)
    file_of(
        spec, "weights", spec, "model_index.json"
    )  # says what is wrong with the repository before anything large is fetched
    cls = diffusers_class(spec, "pipeline", spec.pipeline, "Pipeline")
    replaced = dict.fromkeys(spec.parts)
    options = {"revision": spec.revision, "variant": spec.variant, "use_safetensors": True}
    return fetched(spec, "weights", spec, lambda: cls.download(spec.weights, **options, **replaced))


def part_place(
    spec: DiffusersSpec, name: str, folder: Path, root: Path
) -> tuple[Path, Path | None]:
    """Where a replaced part lies: the folder of its configuration, and the file of its weights
    where they are apart.

    ``root`` is the pipeline's own folder, whose configuration a part of one file has.

    Raises:
        InputError: there is no such folder or file, or the hub does not give it.
    """
    part, key = spec.parts[name], f"parts.{name}.weights"
    local = _local(spec, key, part, folder)
    inside = part.subfolder or ""
    if part.file is None:
        return (local / inside if local else _fetched_part(spec, key, part, inside)), None
    file = file_place(spec, f"parts.{name}", part, part.file, folder)
    own = root / name / "config.json"
    return (
        own if own.is_file() else file_of(spec, "weights", spec, f"{name}/config.json")
    ).parent, file


def file_place(
    spec: DiffusersSpec, key: str, source: WeightsSource, file: str, folder: Path
) -> Path:
    """Where a single file of weights lies, fetched where it comes from the hub; ``key`` is that of
    ``source`` in the pool.

    Raises:
        InputError: it is no safetensors file, there is none, or the hub does not give it.
    """
    if not file.endswith(".safetensors"):
        raise spec.error(
            f"{key}.file",
            f"{file!r} is not a safetensors file; loading others can run code, so it is refused.",
        )
    local, inside = _local(spec, f"{key}.weights", source, folder), source.subfolder or ""
    place = (
        local / inside / file
        if local
        else file_of(spec, f"{key}.weights", source, f"{inside}/{file}".lstrip("/"))
    )
    if not place.is_file():
        raise spec.error(f"{key}.file", f"there is no file {place}.")
    return place


def lora_place(spec: DiffusersSpec, folder: Path) -> Path | None:
    """The file of the adapter, fetched where it comes from the hub; None without one.

    Raises:
        InputError: it is no safetensors file, there is none, or the hub does not give it.
    """
    return file_place(spec, "lora", spec.lora, spec.lora.file, folder) if spec.lora else None


def _fetched_part(spec: DiffusersSpec, key: str, part: PipelinePart, inside: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [
        f"{inside}/{ending}".lstrip("/")
        for ending in ("*.json", "*.safetensors", "*.txt", "*.model")
    ]
    return (
        fetched(
            spec,
            key,
            part,
            lambda: snapshot_download(
                part.weights, revision=part.revision, allow_patterns=patterns
            ),
        )
        / inside
    )


def identity(spec: DiffusersSpec, folder: Path) -> dict[str, Any]:
    """What identifies the weights in plans: their content (hub ids: their revision); of an adapter,
    how much of it is added too.

    Raises:
        InputError: the weights are not there.
    """
    parts = {
        name: _identity(spec, f"parts.{name}.weights", part, folder)
        for name, part in spec.parts.items()
    }
    weights = {
        "weights": _identity(spec, "weights", spec, folder),
        **({"parts": parts} if parts else {}),
    }
    return weights | (
        {"lora": {"weights": _lora_identity(spec, spec.lora, folder), "scale": spec.lora.scale}}
        if spec.lora
        else {}
    )


def _identity(
    spec: DiffusersSpec, key: str, source: DiffusersSpec | WeightsSource, folder: Path
) -> str:
    """A folder by its content, a hub id by its revision; and what of it is meant."""
    path = _local(spec, key, source, folder)
    meant = [f"{getattr(source, k)}" for k in ("subfolder", "file") if getattr(source, k, None)]
    return " ".join(
        [folder_digest(path, _PARTS) if path else f"{source.weights}@{source.revision}", *meant]
    )


def _lora_identity(spec: DiffusersSpec, lora: Lora, folder: Path) -> str:
    """Of a folder the adapter's file alone by its content, wherever it lies in there; of a hub id
    the revision and the file's name.
    """
    if _local(spec, "lora.weights", lora, folder) is None:
        return _identity(spec, "lora.weights", lora, folder)
    with file_place(spec, "lora", lora, lora.file, folder).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def diffusers_class(spec: DiffusersSpec, key: str, name: str, ending: str) -> Any:
    """The class ``name`` of diffusers, whose name ends in ``ending``.

    Raises:
        InputError: there is none; names the nearest.
    """
    import diffusers

    known = [n for n in dir(diffusers) if n.endswith(ending)]
    if name not in known:
        raise spec.error(
            key, f"diffusers has no {ending.lower()} called {name!r}{nearest(name, known)}."
        )
    return getattr(diffusers, name)
