"""Where a generator's weights and configuration come from, and what identifies them in a shard's plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catimage.errors import nearest
from catimage.hashing import folder_digest
from catimage.pool.pool import GeneratorSpec

_PARTS = (".json", ".safetensors", ".txt", ".model")
"""What a pipeline's folder is made of; readmes and pictures beside it change nothing."""


def local_weights(spec: GeneratorSpec, folder: Path) -> Path | None:
    """The folder of the weights, or None for a hub id with a revision.

    Raises:
        InputError: neither.
    """
    path = folder / spec.weights
    if path.is_dir():
        return path
    if spec.revision is None:
        raise spec.error("weights", f"there is no folder {path}; put the weights there or, for a hub id, add its 'revision'.")
    return None


def config_folder(spec: GeneratorSpec, folder: Path) -> Path:
    """A folder with the pipeline's configuration files; of a hub id, these alone are fetched.

    Raises:
        InputError: the folder is not there or is no pipeline, or the hub cannot be reached and has not been before.
    """
    path = local_weights(spec, folder) or _fetched(spec)
    if not (path / "model_index.json").is_file():
        raise spec.error("weights", f"{path} has no model_index.json, so it is not a folder in diffusers' format.")
    return path


def _fetched(spec: GeneratorSpec) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec.weights, revision=spec.revision, allow_patterns=["*.json", "*.txt"]))
    except (OSError, ValueError) as error:
        raise spec.error("weights", f"cannot fetch {spec.weights!r} at revision {spec.revision!r}: {_first_line(error)}.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


def definition(spec: GeneratorSpec, folder: Path) -> dict[str, Any]:
    """What decides a generator's images, for plans: its settings, and its weights by content (hub ids: by revision).

    Where the weights lie is left out, so that a copied workspace keeps its shards.

    Raises:
        InputError: the weights are not there.
    """
    path = local_weights(spec, folder)
    settings = spec.model_dump(exclude={"weights", "revision"})
    return {**settings, "weights": folder_digest(path, _PARTS) if path else f"{spec.weights}@{spec.revision}"}


def diffusers_class(spec: GeneratorSpec, key: str, name: str, ending: str) -> Any:
    """The class ``name`` of diffusers, whose name ends in ``ending``.

    Raises:
        InputError: there is none; names the nearest.
    """
    import diffusers

    known = [n for n in dir(diffusers) if n.endswith(ending)]
    if name not in known:
        raise spec.error(key, f"diffusers has no {ending.lower()} called {name!r}{nearest(name, known)}.")
    return getattr(diffusers, name)
