"""Bentos in the store of BentoML that ``catimage gc`` can remove."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from catimage.common.garbage import Garbage, size_of

if TYPE_CHECKING:
    from bentoml import Bento


def bento_garbage(
    name: str, keep: int, before: float, tags: Collection[str], digests: Collection[str]
) -> list[Garbage]:
    """Return the Bentos that can be removed.

    Args:
        name: the name of the Bentos, ``package.name``.
        keep: the number of the newest Bentos that are kept.
        before: the time before which the removed Bentos were built, in seconds since the epoch.
        tags: the tags of Bentos that are kept.
        digests: the digests of routers whose Bentos are kept.
    """
    import bentoml

    try:
        bentos = sorted(bentoml.list(name), key=_built, reverse=True)
    except bentoml.exceptions.NotFound:
        return []
    processes = _process_texts() if bentos else ""
    old = [
        bento
        for bento in bentos[keep:]
        if _built(bento) < before
        and str(bento.tag) not in tags
        and bento.info.labels.get("router") not in digests
        and bento.path not in processes
        and str(bento.tag) not in processes
    ]
    return [
        Garbage("Bentos", str(b.tag), size_of(Path(b.path)), partial(bentoml.delete, b.tag))
        for b in old
    ]


def _built(bento: Bento) -> float:
    """Return the time at which a Bento was built, in seconds since the epoch."""
    return float(bento.info.creation_time.timestamp())


def _process_texts() -> str:
    """Return the commands and folders of the processes of this machine.

    A process that serves a Bento has its tag or its folder among them.
    """
    import psutil

    texts = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        texts += [*(process.info["cmdline"] or ()), process.info["cwd"] or ""]
    return "\n".join(texts)
