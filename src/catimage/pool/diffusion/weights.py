"""Where a generator's weights and configuration come from, and what identifies them in a shard's plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catimage.errors import nearest
from catimage.hashing import folder_digest
from catimage.pool.diffusion.spec import DiffusersSpec, Part

_PARTS = (".json", ".safetensors", ".txt", ".model")
"""What a pipeline's folder is made of; readmes and pictures beside it change nothing."""


def local_weights(spec: DiffusersSpec, folder: Path) -> Path | None:
    """The folder of the weights, or None for a hub id with a revision.

    Raises:
        InputError: neither.
    """
    return _local(spec, "weights", spec, folder)


def _local(spec: DiffusersSpec, key: str, source: DiffusersSpec | Part, folder: Path) -> Path | None:
    path = folder / source.weights
    if path.is_dir():
        return path
    if source.revision is None:
        raise spec.error(key, f"there is no folder {path}; put the weights there or, for a hub id, add its 'revision'.")
    return None


def config_folder(spec: DiffusersSpec, folder: Path) -> Path:
    """A folder with the pipeline's configuration files; of a hub id, these alone are fetched.

    Raises:
        InputError: the folder is not there or is no pipeline, or the hub cannot be reached and has not been before.
    """
    path = local_weights(spec, folder) or _fetched(spec)
    if not (path / "model_index.json").is_file():
        raise spec.error("weights", f"{path} has no model_index.json, so it is not a folder in diffusers' format.")
    return path


def _fetched(spec: DiffusersSpec) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec.weights, revision=spec.revision, allow_patterns=["*.json", "*.txt"]))
    except (OSError, ValueError) as error:
        raise spec.error("weights", f"cannot fetch {spec.weights!r} at revision {spec.revision!r}: {_first_line(error)}.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


def identity(spec: DiffusersSpec, folder: Path) -> dict[str, Any]:
    """What identifies the weights in plans: their content (hub ids: their revision).

    Raises:
        InputError: the weights are not there.
    """
    parts = {name: _identity(spec, f"parts.{name}.weights", part, folder) for name, part in spec.parts.items()}
    return {"weights": _identity(spec, "weights", spec, folder), **({"parts": parts} if parts else {})}


def _identity(spec: DiffusersSpec, key: str, source: DiffusersSpec | Part, folder: Path) -> str:
    """A folder by its content, a hub id by its revision; and what of it is meant."""
    path = _local(spec, key, source, folder)
    meant = [f"{getattr(source, k)}" for k in ("subfolder", "file") if getattr(source, k, None)]
    return " ".join([folder_digest(path, _PARTS) if path else f"{source.weights}@{source.revision}", *meant])


def diffusers_class(spec: DiffusersSpec, key: str, name: str, ending: str) -> Any:
    """The class ``name`` of diffusers, whose name ends in ``ending``.

    Raises:
        InputError: there is none; names the nearest.
    """
    import diffusers

    known = [n for n in dir(diffusers) if n.endswith(ending)]
    if name not in known:
        raise spec.error(key, f"diffusers has no {ending.lower()} called {name!r}{nearest(name, known)}.")
    return getattr(diffusers, name)
