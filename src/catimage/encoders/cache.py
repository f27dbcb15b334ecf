"""Cache of embeddings per process, because cross-validation, grid searches and stacks encode the
same prompts repeatedly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np

from catimage.encoders.embeddings import Embeddings, concatenate
from catimage.encoders.loading import TextEncoder, load_encoder
from catimage.params import EncoderParams

MAX_BYTES = 512 * 1024**2
"""Memory limit of one encoder's cache; 5,000 prompts take about 100 MB."""
_PROMPT_OVERHEAD = 1000
"""Bytes of Python objects per cached prompt, estimated."""
_LOCK = Lock()
"""Guards the two caches at the end of this module."""


class CachedEncoder:
    """A text encoder that encodes each prompt once.

    Prompts of requests with several prompts are cached until the cache has ``max_bytes``; later
    prompts are encoded on every request. A request with a single prompt, as a server sends it, is
    cached until the next such request, because an estimator may read several features of it.

    Attributes:
        name, context: those of the encoder.
    """

    def __init__(self, encoder: TextEncoder, max_bytes: int = MAX_BYTES) -> None:
        self.name, self.context = encoder.name, encoder.context
        self._encoder, self._max_bytes, self._bytes = encoder, max_bytes, 0
        self._rows: dict[str, Embeddings] = {}
        self._last: tuple[list[str], Embeddings] | None = None

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Return the embeddings of at least one prompt; ``progress`` shows a progress bar."""
        if len(prompts) > 1:
            return self._encode(prompts, progress)
        last = self._last  # read once: another thread may replace it
        if last is None or last[0] != prompts:
            self._last = last = (list(prompts), self._encode(prompts, progress))
        return last[1]

    @contextmanager
    def temporarily_cleared(self) -> Iterator[None]:
        """Empty the cache inside a ``with`` block and restore it afterwards, to measure the cost of
        encoding.
        """
        rows, self._rows, self._last = self._rows, {}, None
        try:
            yield
        finally:
            self._rows = rows

    def _encode(self, prompts: list[str], progress: bool) -> Embeddings:
        rows = {p: self._rows[p] for p in prompts if p in self._rows}
        missing = list(dict.fromkeys(p for p in prompts if p not in rows))
        if missing == prompts:
            embeddings = self._encoder.encode(prompts, progress)
            self._store(prompts, embeddings)
            return embeddings
        if missing:
            embeddings = self._encoder.encode(missing, progress)
            rows |= {p: _row(embeddings, i) for i, p in enumerate(missing)}
            self._store(missing, embeddings)
        return concatenate([rows[p] for p in prompts])

    def _store(self, prompts: Sequence[str], embeddings: Embeddings) -> None:
        if len(prompts) == 1:
            return
        for i, prompt in enumerate(prompts):
            row = _row(embeddings, i)
            size = row.pooled.nbytes + row.layers.nbytes + row.tokens.nbytes + _PROMPT_OVERHEAD
            if self._bytes + size > self._max_bytes:
                return
            self._rows[prompt] = row
            self._bytes += size


def _row(embeddings: Embeddings, i: int) -> Embeddings:
    """Return a copy of the embedding of prompt ``i``, which does not keep the other prompts' arrays
    in memory.
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
    """Return the encoder that ``spec`` describes; the three encoders used last stay loaded.

    Raises:
        InputError: the model is unknown, or its weights are not found.
    """
    with _LOCK:
        return _cached_encoder(spec)


def stored_embeddings(folder: Path) -> Embeddings:
    """Return the embeddings stored in ``folder``, read again only after the folder has changed.

    Raises:
        InputError: the folder does not exist, or its files are incomplete.
    """
    modified = folder.stat().st_mtime_ns if folder.exists() else 0
    with _LOCK:
        return _stored_embeddings(folder, modified)


@lru_cache(maxsize=3)
def _cached_encoder(spec: EncoderParams) -> CachedEncoder:
    return CachedEncoder(load_encoder(spec))


@lru_cache(maxsize=3)
def _stored_embeddings(folder: Path, _modified: int) -> Embeddings:
    return Embeddings.load(folder)
