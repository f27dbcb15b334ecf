"""Caches of embeddings in the memory of a process. They are needed because cross-validation, grid
searches and stacks encode the same prompts repeatedly.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np

from catimage.encoders.embeddings import Embeddings, concatenate
from catimage.encoders.light_clip import LightClipEncoder, light_folder
from catimage.encoders.loading import TextEncoder, load_encoder
from catimage.params import EncoderParams

MAX_BYTES = 512 * 1024**2
"""Memory limit of one encoder's cache; 5,000 prompts take about 100 MB."""
LAST_PROMPTS = 64
"""Largest number of prompts of a call whose embeddings are kept as a whole."""
_PROMPT_OVERHEAD = 1000
"""Estimated size of the Python objects per cached prompt, in bytes."""
_LIGHT: set[EncoderParams] = set()
"""The text encoders that :func:`prefer_light_encoder` was called with."""
_LOCK = Lock()
"""Lock of ``_LIGHT`` and of the caches ``_cached_encoder`` and ``_stored_embeddings``."""


class CachedEncoder:
    """A text encoder with a cache, so that each prompt is encoded only once.

    The embeddings of calls with several prompts are cached until the cache has ``max_bytes`` bytes;
    after that, new prompts are encoded in every call. A server calls :meth:`keep_recent` instead:
    the prompts that were used last stay in the cache, because traffic repeats itself.

    The embeddings of the last call with up to ``LAST_PROMPTS`` prompts are also kept as a whole,
    because an estimator may compute several features of the same prompts.

    Args:
        encoder: the text encoder.
        max_bytes: the memory limit of the cache.

    Attributes:
        name: the name of the text encoder.
        context: the maximum number of tokens per prompt.
    """

    def __init__(self, encoder: TextEncoder, max_bytes: int = MAX_BYTES) -> None:
        self.name, self.context = encoder.name, encoder.context
        self._encoder, self._max_bytes, self._bytes = encoder, max_bytes, 0
        self._recent = False
        self._rows: OrderedDict[str, Embeddings] = OrderedDict()
        self._lock = Lock()
        self._last: tuple[list[str], Embeddings] | None = None

    def keep_recent(self, max_bytes: int) -> None:
        """Keep the embeddings of the prompts that were used last, also those of single prompts.

        Args:
            max_bytes: the memory limit of the cache; less recently used prompts are removed.
        """
        with self._lock:
            self._recent, self._max_bytes = True, max_bytes
            self._remove_old(0)

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Return the embeddings of at least one prompt; ``progress`` shows a progress bar."""
        last = self._last  # read once: another thread may replace it
        if last is not None and last[0] == prompts:
            return last[1]
        embeddings = self._encode(prompts, progress)
        if len(prompts) <= LAST_PROMPTS:
            self._last = (list(prompts), embeddings)
        return embeddings

    def count_tokens(self, prompts: list[str]) -> tuple[list[int], list[bool]]:
        """Return the number of tokens that are read of each prompt, and whether it is cut."""
        return self._encoder.count_tokens(prompts)

    @contextmanager
    def temporarily_cleared(self) -> Iterator[None]:
        """Empty the cache inside a ``with`` block and restore it afterwards, except for the
        embeddings of the last call.

        Measurements of the cost of encoding use this method.
        """
        with self._lock:
            rows, size = self._rows, self._bytes
            self._rows, self._bytes, self._last = OrderedDict(), 0, None
        try:
            yield
        finally:
            with self._lock:
                self._rows, self._bytes = rows, size

    def _encode(self, prompts: list[str], progress: bool) -> Embeddings:
        rows = self._cached(prompts)
        missing = list(dict.fromkeys(p for p in prompts if p not in rows))
        if missing == prompts:
            embeddings = self._encoder.encode(prompts, progress)
            self._store(prompts, embeddings)
            return embeddings
        if missing:
            embeddings = self._encoder.encode(missing, progress)
            rows |= {p: _row(embeddings, i) for i, p in enumerate(missing)}
            self._store(missing, embeddings)
        return rows[prompts[0]] if len(prompts) == 1 else concatenate([rows[p] for p in prompts])

    def _cached(self, prompts: list[str]) -> dict[str, Embeddings]:
        """Return the cached embeddings of those of the prompts that have one."""
        with self._lock:
            rows = {p: row for p in prompts if (row := self._rows.get(p)) is not None}
            if self._recent:
                for prompt in rows:
                    self._rows.move_to_end(prompt)
        return rows

    def _store(self, prompts: Sequence[str], embeddings: Embeddings) -> None:
        if len(prompts) == 1 and not self._recent:
            return
        for i, prompt in enumerate(prompts):
            row = embeddings if len(prompts) == 1 else _row(embeddings, i)
            size = _size(row)
            with self._lock:
                if self._recent:
                    self._remove_old(size)
                if self._bytes + size > self._max_bytes:
                    return
                if prompt not in self._rows:
                    self._rows[prompt] = row
                    self._bytes += size

    def _remove_old(self, room: int) -> None:
        """Remove the least recently used prompts until there is room for ``room`` bytes."""
        while self._rows and self._bytes + room > self._max_bytes:
            self._bytes -= _size(self._rows.popitem(last=False)[1])


def _size(row: Embeddings) -> int:
    """Return the memory of a cached prompt in bytes."""
    return row.pooled.nbytes + row.layers.nbytes + row.tokens.nbytes + _PROMPT_OVERHEAD


def _row(embeddings: Embeddings, i: int) -> Embeddings:
    """Return a copy of the embedding of prompt ``i``, so that the arrays of the other prompts can
    be freed.
    """
    first, last = embeddings.offsets[i : i + 2]
    return Embeddings(
        prompt_ids=[embeddings.prompt_ids[i]],
        pooled=embeddings.pooled[i : i + 1].copy(),
        layers=embeddings.layers[i : i + 1].copy(),
        tokens=embeddings.tokens[first:last].copy(),
        offsets=np.array([0, last - first], np.int64),
        cut=embeddings.cut[i : i + 1].copy(),
        encoder=embeddings.encoder,
    )


def cached_encoder(spec: EncoderParams) -> CachedEncoder:
    """Return the text encoder described by ``spec``; the three most recently used are kept in
    memory.

    Raises:
        InputError: the model is unknown, or its weights are not found.
    """
    with _LOCK:
        return _cached_encoder(spec)


def prefer_light_encoder(spec: EncoderParams) -> None:
    """Load a text encoder without torch, if it is a CLIP model that allows it and it has not been
    loaded yet (:mod:`catimage.encoders.light_clip`). A server calls this function.
    """
    with _LOCK:
        _LIGHT.add(spec)


def stored_embeddings(folder: Path) -> Embeddings:
    """Return the embeddings stored in ``folder``; they are read again only after it has changed.

    Raises:
        InputError: the folder does not exist, or its files are missing or damaged.
    """
    modified = folder.stat().st_mtime_ns if folder.exists() else 0
    with _LOCK:
        return _stored_embeddings(folder, modified)


@lru_cache(maxsize=3)
def _cached_encoder(spec: EncoderParams) -> CachedEncoder:
    folder = light_folder(spec) if spec in _LIGHT else None
    return CachedEncoder(load_encoder(spec) if folder is None else LightClipEncoder(spec, folder))


@lru_cache(maxsize=3)
def _stored_embeddings(folder: Path, _modified: int) -> Embeddings:
    return Embeddings.load(folder)
