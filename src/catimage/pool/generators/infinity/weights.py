"""Infinity's checkpoints: pickles that are converted to safetensors once."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from catimage.common.hashing import folder_digest
from catimage.errors import error_summary
from catimage.pool.generators.infinity.spec import InfinitySpec
from catimage.workspace import replacing

TRANSFORMER, TOKENIZER = "infinity_2b_reg", "infinity_vae_d32reg"
"""Names of the two checkpoints, without suffix."""


def checkpoints(spec: InfinitySpec, folder: Path) -> tuple[Path, Path]:
    """Return the safetensors files of transformer and tokenizer.

    They are downloaded and converted if they do not exist.

    Raises:
        InputError: They are unavailable, or contain anything but tensors.
    """
    transformer, tokenizer = (
        _converted(spec, _published(spec, folder, name)) for name in (TRANSFORMER, TOKENIZER)
    )
    return transformer, tokenizer


def _published(spec: InfinitySpec, folder: Path, name: str) -> Path:
    """Return the path of a published checkpoint, and download it from the hub if necessary."""
    local = folder / spec.weights
    if local.is_dir():
        return local / f"{name}.pth"
    revision = _pinned(spec, folder, "weights", "revision")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(spec.weights, f"{name}.pth", revision=revision))
    except (OSError, ValueError) as error:
        raise spec.error(
            "weights",
            f"cannot download {name}.pth of {spec.weights!r} at revision {revision!r}:"
            f" {error_summary(error)}. Check the id and the connection.",
        ) from error


def _converted(spec: InfinitySpec, path: Path) -> Path:
    """Return the safetensors file of a pickled checkpoint, and convert it on the first call."""
    safe = path.with_suffix(".safetensors")
    if safe.is_file():
        return safe
    import torch
    from safetensors.torch import save_file

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise spec.error(
            "weights",
            f"neither {path.name} nor {safe.name} is in {path.parent}. Copy one of them there.",
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise spec.error(
            "weights",
            f"{path} is damaged or contains more than tensors. Download it again.",
        ) from error
    state = state.get("vae", state)  # the key of the tokenizer's tensors
    tensors = {
        name: value.clone().contiguous()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise spec.error("weights", f"{path} contains no tensors. Download it again.")
    with replacing(safe) as fresh:
        save_file(tensors, fresh)
    return safe


def identity(spec: InfinitySpec, folder: Path) -> dict[str, Any]:
    """Return digests of folders, and the revisions of hub ids.

    Raises:
        InputError: The weights are not found, or a hub id has no revision.
    """
    local, text = folder / spec.weights, folder / spec.text_encoder
    if local.is_dir():
        checkpoints(spec, folder)
        weights = folder_digest(local, (f"{TRANSFORMER}.safetensors", f"{TOKENIZER}.safetensors"))
    else:
        weights = f"{spec.weights}@{_pinned(spec, folder, 'weights', 'revision')}"
    pinned = "" if text.is_dir() else _pinned(spec, folder, "text_encoder", "text_encoder_revision")
    encoder = folder_digest(text) if text.is_dir() else f"{spec.text_encoder}@{pinned}"
    return {"weights": weights, "text_encoder": encoder}


def _pinned(spec: InfinitySpec, folder: Path, key: str, revision_key: str) -> str:
    """Return the revision of a hub id."""
    revision: str | None = getattr(spec, revision_key)
    if revision is None:
        raise spec.error(
            key,
            f"folder {folder / getattr(spec, key)} not found. Copy it there or, for a hub id, add"
            f" {revision_key!r}.",
        )
    return revision


def missing(spec: InfinitySpec, folder: Path) -> str:
    """Return the names of what is missing on this machine; empty if a run can start."""
    package = [] if find_spec("infinity") else ["the official package"]
    files = [
        n
        for n in (TRANSFORMER, TOKENIZER)
        if not _is_local(folder, spec.weights, spec.revision, f"{n}.safetensors", f"{n}.pth")
    ]
    text = (
        []
        if _is_local(folder, spec.text_encoder, spec.text_encoder_revision, "config.json")
        else [spec.text_encoder]
    )
    return ", ".join([*package, *files, *text])


def _is_local(folder: Path, source: str, revision: str | None, *names: str) -> bool:
    """Whether one of the files is in the folder ``source``, or in the cache of a hub id."""
    from huggingface_hub import try_to_load_from_cache

    if (folder / source).is_dir():
        return any((folder / source / name).is_file() for name in names)
    return any(
        isinstance(try_to_load_from_cache(source, name, revision=revision), str) for name in names
    )
