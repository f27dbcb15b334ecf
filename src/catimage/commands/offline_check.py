"""A part of the dry run: whether weights are on this machine, without asking the network."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catimage.errors import InputError
from catimage.metrics.metric import MetricContext
from catimage.params import Encoder


class NotHere(InputError):
    """Weights that a run would fetch from the hub."""


class Looking(MetricContext):
    """A context of metrics in which no CLIP is made whose weights are not here: making one takes a
    minute, and then finding none.
    """

    def shared(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """As in a run, but for a CLIP.

        Raises:
            NotHere: its weights are not on this machine.
        """
        if isinstance(key, tuple) and key[0] == "clip":
            check_encoder(key[1])
        return super().shared(key, load)


def check_encoder(spec: Encoder) -> None:
    """Whether a text encoder is known, and its weights are here.

    Raises:
        InputError: an unknown model or weights, or a folder that is not there.
        NotHere: the hub's cache lacks the weights.
    """
    from catimage.encoders.loading import SENTENCE_TRANSFORMERS_PREFIX
    from catimage.encoders.open_clip import HUB_PREFIX, LOCAL_PREFIX, check_open_clip_name

    if spec.model == "tiny":
        return
    if spec.model.startswith(SENTENCE_TRANSFORMERS_PREFIX):
        name = spec.model.removeprefix(SENTENCE_TRANSFORMERS_PREFIX)
        if not Path(name).is_dir() and not _cached(name, "config.json", spec.revision or None):
            raise NotHere(f"encoder: {name} is no folder, and not in the hub's cache.")
        return
    if spec.model.startswith(LOCAL_PREFIX):
        if not Path(spec.model.removeprefix(LOCAL_PREFIX)).is_dir():
            raise InputError(
                f"encoder.model: there is no folder {spec.model.removeprefix(LOCAL_PREFIX)}; put"
                " the model there, or name another."
            )
    elif spec.model.startswith(HUB_PREFIX):
        if not _cached(
            spec.model.removeprefix(HUB_PREFIX), "open_clip_config.json", spec.revision or None
        ):
            raise NotHere(f"encoder: {spec.model} is not in the hub's cache.")
    else:
        check_open_clip_name(spec)
        if not Path(spec.weights or ".").is_file() and not _tag_cached(spec):
            raise NotHere(f"encoder: {spec.name} is not in the hub's cache.")


def _tag_cached(spec: Encoder) -> bool:
    """Of a tag of open_clip's, which is a repository on the hub or a file of one; others are
    downloads by address.
    """
    from open_clip import get_pretrained_cfg

    place = get_pretrained_cfg(spec.model, spec.weights).get("hf_hub", "")
    owner, _, rest = place.partition("/")
    name, _, file = rest.partition("/")
    files = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    return bool(place) and any(_cached(f"{owner}/{name}", f, None) for f in files)


def _cached(repository: str, file: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file, revision=revision), str)


def unfetched(error: BaseException) -> bool:
    """Whether an error only says that the hub's cache lacks something, which a run with a network
    fetches.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        link = link.__cause__ or link.__context__
    return any(
        isinstance(e, LocalEntryNotFoundError | OfflineModeIsEnabled | NotHere) for e in seen
    )


@contextmanager
def offline() -> Iterator[None]:
    """The model hub's client answers from its cache alone."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
