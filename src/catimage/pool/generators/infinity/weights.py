"""The checkpoints of Infinity-2B: pickles that are converted to safetensors once."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from catimage.common.hashing import folder_digest
from catimage.common.hub_errors import is_hub_id
from catimage.errors import error_summary
from catimage.pool.generators.infinity.spec import InfinitySpec
from catimage.workspace import replacing

TRANSFORMER, AUTOENCODER = "infinity_2b_reg", "infinity_vae_d32reg"
"""Names of the checkpoints, without suffix. The autoencoder is the image tokenizer."""


def checkpoints(spec: InfinitySpec, folder: Path) -> tuple[Path, Path]:
    """Return the safetensors files of the transformer and the autoencoder.

    Missing files are converted from the published checkpoints, which are downloaded if necessary.

    Raises:
        InputError: a checkpoint is unavailable, or contains objects other than tensors.
    """
    transformer, autoencoder = (
        _converted_checkpoint(spec, _published_checkpoint(spec, folder, name))
        for name in (TRANSFORMER, AUTOENCODER)
    )
    return transformer, autoencoder


def _published_checkpoint(spec: InfinitySpec, folder: Path, name: str) -> Path:
    """Return the path of a published checkpoint, downloaded from the hub if necessary."""
    local = folder / spec.weights
    if local.is_dir():
        return local / f"{name}.pth"
    revision = _hub_revision(spec, folder, "weights", "revision")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(spec.weights, f"{name}.pth", revision=revision))
    except (OSError, ValueError) as error:
        raise spec.error(
            "weights",
            f"cannot download {name}.pth of {spec.weights!r} at revision {revision!r}"
            f" ({error_summary(error)}). Check the hub id and the network connection.",
        ) from error


def _converted_checkpoint(spec: InfinitySpec, path: Path) -> Path:
    """Return the safetensors file of a pickled checkpoint, converted on the first call."""
    safetensors_path = path.with_suffix(".safetensors")
    if safetensors_path.is_file():
        return safetensors_path
    import torch
    from safetensors.torch import save_file

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise spec.error(
            "weights",
            f"neither {path.name} nor {safetensors_path.name} is in {path.parent}. Copy one of"
            " them there.",
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise spec.error(
            "weights",
            f"{path} is damaged or contains objects other than tensors. Download it again.",
        ) from error
    state = state.get("vae", state)  # the autoencoder's checkpoint has its tensors below this key
    tensors = {
        name: value.clone().contiguous()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise spec.error("weights", f"{path} contains no tensors. Download it again.")
    with replacing(safetensors_path) as temporary_path:
        save_file(tensors, temporary_path)
    return safetensors_path


def identity(spec: InfinitySpec, folder: Path) -> dict[str, Any]:
    """Return the digests of folders, and the revisions of hub ids.

    Raises:
        InputError: the weights are not found, or a hub id has no revision.
    """
    local, text_encoder = folder / spec.weights, folder / spec.text_encoder
    if local.is_dir():
        checkpoints(spec, folder)
        weights = folder_digest(local, (f"{TRANSFORMER}.safetensors", f"{AUTOENCODER}.safetensors"))
    else:
        weights = f"{spec.weights}@{_hub_revision(spec, folder, 'weights', 'revision')}"
    if text_encoder.is_dir():
        text_identity = folder_digest(text_encoder)
    else:
        revision = _hub_revision(spec, folder, "text_encoder", "text_encoder_revision")
        text_identity = f"{spec.text_encoder}@{revision}"
    return {"weights": weights, "text_encoder": text_identity}


def _hub_revision(spec: InfinitySpec, folder: Path, key: str, revision_key: str) -> str:
    """Return the revision of a hub id.

    Args:
        spec: the generator's settings in the pool file.
        folder: the folder of the pool file.
        key: the key of the hub id.
        revision_key: the key of the revision.

    Raises:
        InputError: there is no revision.
    """
    revision: str | None = getattr(spec, revision_key)
    if revision is None:
        raise spec.error(
            key,
            f"the folder {folder / getattr(spec, key)} is not found. Put the weights there or,"
            f" for a hub id, add its {revision_key!r}.",
        )
    if not is_hub_id(getattr(spec, key)):
        raise spec.error(
            key,
            f"the folder {folder / getattr(spec, key)} is not found, and {getattr(spec, key)!r} is"
            " not a hub id, which has the form OWNER/NAME. Correct the path, or put the weights"
            " there.",
        )
    return revision


def missing_requirements(spec: InfinitySpec, folder: Path) -> str:
    """Return the names of missing packages and files; empty if images can be generated."""
    package = [] if find_spec("infinity") else ["the official package"]
    files = [
        name
        for name in (TRANSFORMER, AUTOENCODER)
        if not _is_local(folder, spec.weights, spec.revision, f"{name}.safetensors", f"{name}.pth")
    ]
    text_encoder = (
        []
        if _is_local(folder, spec.text_encoder, spec.text_encoder_revision, "config.json")
        else [spec.text_encoder]
    )
    return ", ".join([*package, *files, *text_encoder])


def _is_local(folder: Path, source: str, revision: str | None, *names: str) -> bool:
    """Return whether one of the named files is on this machine.

    Args:
        folder: the folder of the pool file.
        source: a folder, or a hub id whose files may be in the hub's cache.
        revision: revision of the hub id.
        names: names of files.
    """
    from huggingface_hub import try_to_load_from_cache

    if (folder / source).is_dir():
        return any((folder / source / name).is_file() for name in names)
    return any(
        isinstance(try_to_load_from_cache(source, name, revision=revision), str) for name in names
    )
