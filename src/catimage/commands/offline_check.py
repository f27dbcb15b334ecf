"""Checks whether weights are on this machine, without network access."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catimage.errors import InputError
from catimage.metrics.metric import MetricContext
from catimage.params import EncoderParams


class NotCachedError(InputError):
    """Weights are not on this machine, and a run would download them from the model hub."""


class OfflineContext(MetricContext):
    """A context of metrics that loads no CLIP model whose weights are not on this machine.

    An ordinary context takes a minute to fail: open_clip constructs the model before it looks for
    the weights.
    """

    def shared(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """Return a shared model, and load it on the first call.

        Raises:
            NotCachedError: the model is a CLIP whose weights are not on this machine.
        """
        if isinstance(key, tuple) and key[0] == "clip":
            check_encoder(key[1])
        return super().shared(key, load)


def check_encoder(spec: EncoderParams) -> None:
    """Check that a text encoder is known and that its weights are on this machine.

    Raises:
        InputError: the model or weights are unknown, or the folder does not exist.
        NotCachedError: the weights are not in the cache of the model hub.
    """
    from catimage.encoders.loading import SENTENCE_TRANSFORMERS_PREFIX
    from catimage.encoders.open_clip import HUB_PREFIX, LOCAL_PREFIX, check_open_clip_name

    name = spec.model.partition(":")[2]
    if spec.model == "tiny":
        return
    if spec.model.startswith(LOCAL_PREFIX):
        if not Path(name).is_dir():
            raise InputError(f"encoder.model: folder {name} not found. Correct the path.")
        return
    if spec.model.startswith(SENTENCE_TRANSFORMERS_PREFIX):
        cached = Path(name).is_dir() or _is_cached(name, "config.json", spec.revision)
    elif spec.model.startswith(HUB_PREFIX):
        cached = _is_cached(name, "open_clip_config.json", spec.revision)
    else:
        check_open_clip_name(spec)
        cached = Path(spec.weights or ".").is_file() or _tag_is_cached(spec)
    if not cached:
        raise NotCachedError(
            f"encoder.model: {spec.name} is not in the cache of the model hub. Run the stage with"
            " network access."
        )


def _tag_is_cached(spec: EncoderParams) -> bool:
    """Return whether the weights of an open_clip tag are cached.

    A tag refers to a repository of the model hub, to a file in a repository, or to another URL.
    Weights at other URLs count as not cached, because they are not downloaded through the hub.
    """
    from open_clip import get_pretrained_cfg

    location = get_pretrained_cfg(spec.model, spec.weights).get("hf_hub", "")
    owner, _, remainder = location.partition("/")
    name, _, file = remainder.partition("/")
    files = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    return bool(location) and any(_is_cached(f"{owner}/{name}", f, "") for f in files)


def _is_cached(repository: str, file: str, revision: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str)


def is_not_cached(error: BaseException) -> bool:
    """Return whether an error is due to a file that a run with network access would download."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    not_cached_errors = (LocalEntryNotFoundError, OfflineModeIsEnabled, NotCachedError)
    return any(isinstance(link, not_cached_errors) for link in chain)


@contextmanager
def offline() -> Iterator[None]:
    """Restrict the client of the model hub to its cache inside the ``with`` block."""
    from huggingface_hub import constants

    previous = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = previous
