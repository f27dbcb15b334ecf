"""Infinity's checkpoints: published as pickles, read once as tensors alone and kept as safetensors."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from catimage.common.hashing import folder_digest
from catimage.pool.generators.infinity.spec import InfinitySpec
from catimage.workspace import replacing

TRANSFORMER, TOKENIZER = "infinity_2b_reg", "infinity_vae_d32reg"
"""Names of the two checkpoints, without ending."""


def checkpoints(spec: InfinitySpec, folder: Path) -> tuple[Path, Path]:
    """The safetensors files of transformer and tokenizer, fetched and converted where they are not
    there yet.

    Raises:
        InputError: they are not to be had, or hold anything else than tensors.
    """
    transformer, tokenizer = (
        _safe(spec, _found(spec, folder, name)) for name in (TRANSFORMER, TOKENIZER)
    )
    return transformer, tokenizer


def _found(spec: InfinitySpec, folder: Path, name: str) -> Path:
    """Where a checkpoint lies, as it is published."""
    local = folder / spec.weights
    if local.is_dir():
        return local / f"{name}.pth"
    revision = _pinned(spec, folder, "weights", "revision")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(spec.weights, f"{name}.pth", revision=revision))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise spec.error(
            "weights",
            f"cannot fetch {name}.pth of {spec.weights!r} at revision {revision!r}: {reason}.",
        ) from error


def _safe(spec: InfinitySpec, path: Path) -> Path:
    """The safetensors file beside a pickled checkpoint, made from it once."""
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
            f"neither {path.name} nor {safe.name} is in {path.parent}; put one of them there.",
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise spec.error(
            "weights",
            f"{path} is damaged or holds more than tensors, and is refused; fetch it again.",
        ) from error
    state = state.get("vae", state)  # the tokenizer's lie under that key
    tensors = {
        name: value.clone().contiguous()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise spec.error("weights", f"{path} holds no tensors; fetch it again.")
    with replacing(safe) as fresh:
        save_file(tensors, fresh)
    return safe


def identity(spec: InfinitySpec, folder: Path) -> dict[str, Any]:
    """What identifies the weights in plans: content where they are in a folder, the revision of a
    hub id.

    Raises:
        InputError: the weights are not there, or a hub id has no revision.
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
    revision: str | None = getattr(spec, revision_key)
    if revision is None:
        raise spec.error(
            key,
            f"there is no folder {folder / getattr(spec, key)}; put it there or, for a hub id, add"
            f" {revision_key!r}.",
        )
    return revision


def missing(spec: InfinitySpec, folder: Path) -> str:
    """What is not on this machine, in words; empty where a run can start."""
    package = [] if find_spec("infinity") else ["the official package"]
    files = [
        n
        for n in (TRANSFORMER, TOKENIZER)
        if not _at_hand(folder, spec.weights, spec.revision, f"{n}.safetensors", f"{n}.pth")
    ]
    text = (
        []
        if _at_hand(folder, spec.text_encoder, spec.text_encoder_revision, "config.json")
        else [spec.text_encoder]
    )
    return ", ".join([*package, *files, *text])


def _at_hand(folder: Path, source: str, revision: str | None, *names: str) -> bool:
    """Whether one of the files is in the folder ``source`` or, of a hub id, in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    if (folder / source).is_dir():
        return any((folder / source / name).is_file() for name in names)
    return any(
        isinstance(try_to_load_from_cache(source, name, revision=revision), str) for name in names
    )
