"""Inverted lists (Sivic and Zisserman 2003, as in FAISS's IVF): training prompts by the nearest of
some centres, to compare with few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Float32

_ROUNDS = 6
"""Of k-means: the lists need only be compact, not the best there are."""
_SAMPLE = 32
"""Prompts a list that k-means learns from."""
_BLOCK = 4096


@dataclass(frozen=True)
class Lists:
    """Rows of unit vectors by list.

    Attributes:
        order: int64 (n,), the rows, list after list.
        starts: int64 (n_lists + 1,); list ``i`` is ``order[starts[i]:starts[i + 1]]``.
        centers: (n_lists, width), of unit length.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    centers: Float32


def lists_of(x: Float32, seed: int) -> Lists:
    """Spherical k-means of unit vectors (n, width) into about twice the root of n lists, learned
    from a sample.
    """
    rng, count = np.random.default_rng(seed), min(len(x), int(2 * np.sqrt(len(x))))
    sample = x[rng.permutation(len(x))[: _SAMPLE * count]]
    centers = sample[:count].copy()
    for _ in range(_ROUNDS):
        owner = _nearest(sample, centers)
        rows = np.argsort(owner, kind="stable")
        used, first = np.unique(owner[rows], return_index=True)
        centers[used] = unit(
            np.add.reduceat(sample[rows], first, axis=0)
        )  # a list that nothing is nearest to keeps its centre
    owner = _nearest(x, centers)
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))])
    return Lists(np.argsort(owner, kind="stable"), starts.astype(np.int64), centers)


def unit(x: NDArray[np.floating]) -> Float32:
    """Rows of length 1; a row of zeros stays."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    scaled: Float32 = (x / np.where(norm > 0, norm, 1)).astype(np.float32)
    return scaled


def _nearest(x: Float32, centers: Float32) -> NDArray[np.int64]:
    return np.concatenate(
        [(x[i : i + _BLOCK] @ centers.T).argmax(axis=1) for i in range(0, len(x), _BLOCK)]
    )
