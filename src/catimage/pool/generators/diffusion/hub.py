"""Files of the model hub, and one sentence for each way of not getting them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from catimage.common.hub_errors import refusal
from catimage.pool.generators.diffusion.spec import DiffusersSpec, WeightsSource


def fetched(
    spec: DiffusersSpec, key: str, source: DiffusersSpec | WeightsSource, fetch: Callable[[], Any]
) -> Path:
    """What ``fetch`` brings of ``source``, a repository of the hub at a revision; files fetched
    before are taken from the hub's cache.

    Raises:
        InputError: the model is gated, private or gone, has no such revision or file, or the hub
            does not answer.
    """
    try:
        return Path(fetch())
    except (OSError, ValueError) as error:
        raise spec.error(key, f"{refusal(error, source.weights, str(source.revision))}.") from error


def file_of(
    spec: DiffusersSpec, key: str, source: DiffusersSpec | WeightsSource, name: str
) -> Path:
    """One file of a repository."""
    from huggingface_hub import hf_hub_download

    return fetched(
        spec, key, source, lambda: hf_hub_download(source.weights, name, revision=source.revision)
    )
