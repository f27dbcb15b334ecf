"""Files of the model hub, and one sentence for each way of not getting them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from catimage.pool.diffusion.spec import DiffusersSpec, Source


def fetched(spec: DiffusersSpec, key: str, source: DiffusersSpec | Source, fetch: Callable[[], Any]) -> Path:
    """What ``fetch`` brings of ``source``, a repository of the hub at a revision; files fetched before are taken from the hub's cache.

    Raises:
        InputError: the model is gated, private or gone, has no such revision or file, or the hub does not answer.
    """
    try:
        return Path(fetch())
    except (OSError, ValueError) as error:
        raise spec.error(key, f"{_refusal(error, source.weights, str(source.revision))}.") from error


def file_of(spec: DiffusersSpec, key: str, source: DiffusersSpec | Source, name: str) -> Path:
    """One file of a repository."""
    from huggingface_hub import hf_hub_download

    return fetched(spec, key, source, lambda: hf_hub_download(source.weights, name, revision=source.revision))


def _refusal(error: Exception, repository: str, revision: str) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{repository!r} is gated: accept its terms on its page of the hub, and set HF_TOKEN to a token of that account"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no {repository!r}, or it is private: mend its name, or set HF_TOKEN to a token that may read it"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository!r} has no revision {revision!r} (any more): give it another 'revision'"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"{repository!r} lacks a file at revision {revision!r}: {_first_line(error)}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"the hub does not answer, and {repository!r} at revision {revision!r} has not been fetched before: look to the network"
    if "necessary `safetensors` weights" in str(error):  # diffusers' words; its error has no class of its own
        return f"{repository!r} has weights as pickles alone, which can run code when they are loaded: take a revision with safetensors"
    return f"cannot fetch {repository!r} at revision {revision!r}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return " ".join(line for line in str(error).splitlines() if line.strip())[:300].rstrip(".")
