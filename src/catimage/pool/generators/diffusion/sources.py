"""Locations of weights: folders on this machine, and repositories of the model hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from catimage.common.hub_errors import hub_error_message, is_hub_id
from catimage.pool.generators.diffusion.spec import DiffusersSpec, WeightsSource

AnySource = DiffusersSpec | WeightsSource
"""A generator, or the source of a part or an adapter. All have ``weights`` and ``revision``."""


def local_folder(spec: DiffusersSpec, key: str, source: AnySource, folder: Path) -> Path | None:
    """Return the local folder of a source; None if the source is a hub id with a revision.

    Args:
        spec: the generator, for error messages.
        key: the key of ``source`` in the generator's entry.
        source: the source.
        folder: the folder of the pool file.

    Raises:
        InputError: the folder does not exist, and the source has no revision or is no hub id.
    """
    path = folder / source.weights
    if path.is_dir():
        return path
    if source.revision is None:
        raise spec.error(
            key,
            f"the folder {path} is not found. Put the weights there or, for a hub id, add its"
            " 'revision'.",
        )
    if not is_hub_id(source.weights):
        raise spec.error(
            key,
            f"the folder {path} is not found, and {source.weights!r} is not a hub id, which has the"
            " form OWNER/NAME. Correct the path, or put the weights there.",
        )
    return None


def download(spec: DiffusersSpec, key: str, source: AnySource, fetch: Callable[[], Any]) -> Path:
    """Call ``fetch``, which downloads files of a hub repository, and return the path.

    Files that are in the hub's cache are not downloaded again.

    Args:
        spec: the generator, for error messages.
        key: the key of ``source`` in the generator's entry.
        source: the source, for error messages.
        fetch: function that downloads the files and returns their path.

    Raises:
        InputError: the repository is gated, private or unknown, it has no such revision or file,
            or the hub does not respond.
    """
    try:
        return Path(fetch())
    except (OSError, ValueError) as error:
        message = hub_error_message(error, source.weights, str(source.revision))
        raise spec.error(key, message) from error


def download_file(spec: DiffusersSpec, key: str, source: AnySource, name: str) -> Path:
    """Download one file of a hub repository; see :func:`download`."""
    from huggingface_hub import hf_hub_download

    return download(
        spec, key, source, lambda: hf_hub_download(source.weights, name, revision=source.revision)
    )


def download_files(spec: DiffusersSpec, key: str, source: AnySource, patterns: list[str]) -> Path:
    """Download the files of a hub repository that match a pattern; see :func:`download`."""
    from huggingface_hub import snapshot_download

    return download(
        spec,
        key,
        source,
        lambda: snapshot_download(
            source.weights, revision=source.revision, allow_patterns=patterns
        ),
    )


def cached_folder(source: AnySource) -> Path | None:
    """Return the folder of a hub repository in the hub's cache; None if it is not in the cache.

    The folder may lack files that have never been downloaded.
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
