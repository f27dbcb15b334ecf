"""Text encoders that remember: cross-validation, grids and stacks ask for the same prompts again
and again, and each is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catimage.encoders import TextEncoder, load_encoder
from catimage.encoders.embeddings import Embeddings, concatenated
from catimage.params import Encoder

MOST_BYTES = 512 * 1024**2
"""Of one encoder; 5,000 prompts take about 100 MB. Prompts beyond are encoded each time."""


class Remembered:
    """An encoder and what it has said so far, up to ``most`` bytes. A single prompt, as a server
    sends it, is remembered until the next call: an estimator may read several things of it.
    """

    def __init__(self, encoder: TextEncoder, most: int = MOST_BYTES) -> None:
        self.name, self.context = encoder.name, encoder.context
        self._encoder, self._most, self._bytes = encoder, most, 0
        self._known: dict[str, Embeddings] = {}
        self._last: tuple[list[str], Embeddings] | None = None

    def encode(self, prompts: list[str], progress: bool = False) -> Embeddings:
        """Embeds prompts (at least one); those that are known are looked up."""
        if len(prompts) > 1:
            return self._found(prompts, progress)
        last = self._last  # another thread may put its own there meanwhile
        if last is None or last[0] != prompts:
            self._last = last = (list(prompts), self._found(prompts, progress))
        return last[1]

    def _found(self, prompts: list[str], progress: bool) -> Embeddings:
        new = list(dict.fromkeys(p for p in prompts if p not in self._known))
        if new == prompts:  # all of them are new
            fresh = self._encoder.encode(prompts, progress)
            self._remember(prompts, fresh)
            return fresh
        found = {p: self._known[p] for p in prompts if p in self._known}
        if new:
            fresh = self._encoder.encode(new, progress)
            found |= {p: _row(fresh, i) for i, p in enumerate(new)}
            self._remember(new, fresh)
        return concatenated([found[p] for p in prompts])

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """While it lasts nothing is known, so that what encoding costs can be measured."""
        known, self._known, self._last = self._known, {}, None
        try:
            yield
        finally:
            self._known = known

    def _remember(self, prompts: Sequence[str], embedded: Embeddings) -> None:
        if len(prompts) == 1:
            return
        for i, prompt in enumerate(prompts):
            row = _row(embedded, i)
            size = row.pooled.nbytes + row.layers.nbytes + row.tokens.nbytes + 1000
            if self._bytes + size > self._most:
                return
            self._known[prompt] = row
            self._bytes += size


def _row(embedded: Embeddings, i: int) -> Embeddings:
    """The embedding of one prompt, copied, so that it does not keep those of the others in memory."""
    first, last = embedded.offsets[i : i + 2]
    offsets: NDArray[np.int64] = np.array([0, last - first], np.int64)
    tokens, pooled, layers = (
        embedded.tokens[first:last].copy(),
        embedded.pooled[i : i + 1].copy(),
        embedded.layers[i : i + 1].copy(),
    )
    return Embeddings(
        [embedded.prompt_ids[i]],
        pooled,
        layers,
        tokens,
        offsets,
        embedded.cut[i : i + 1].copy(),
        embedded.encoder,
    )


@lru_cache(maxsize=3)
def remembered(spec: Encoder) -> Remembered:
    """The encoder that the parameters name, loaded once a process.

    Raises:
        InputError: an unknown model, or weights that are not there.
    """
    return Remembered(load_encoder(spec))


def stored(folder: Path) -> Embeddings:
    """The embeddings of a folder, read once for as long as it does not change.

    Raises:
        InputError: the folder does not hold whole embeddings.
    """
    return _stored(str(folder), folder.stat().st_mtime_ns if folder.exists() else 0)


@lru_cache(maxsize=3)
def _stored(folder: str, _changed: int) -> Embeddings:
    return Embeddings.load(Path(folder))
