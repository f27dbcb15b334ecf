"""An inverted file index (IVF; Sivic and Zisserman 2003, as in FAISS): vectors are grouped into
lists by the nearest of several centers, and a search compares a query with a few lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Float32, Ints

_KMEANS_ITERATIONS = 6
"""Few iterations suffice: the search needs compact lists, not the optimal clustering."""
_KMEANS_SAMPLES_PER_LIST = 32
_BLOCK = 4096


@dataclass(frozen=True)
class InvertedFileIndex:
    """Row numbers of unit vectors, grouped into lists.

    Attributes:
        order: int64 (n,), row numbers sorted by list.
        starts: int64 (n_lists + 1,); list ``i`` is ``order[starts[i]:starts[i + 1]]``.
        centers: (n_lists, width), unit vectors.
    """

    order: Ints
    starts: Ints
    centers: Float32


def build_index(x: Float32, seed: int) -> InvertedFileIndex:
    """Return an index with about 2 sqrt(n) lists of the unit vectors ``x`` (n, width).

    The centers are found by spherical k-means on a sample of the vectors.
    """
    rng, n_lists = np.random.default_rng(seed), min(len(x), int(2 * np.sqrt(len(x))))
    sample = x[rng.permutation(len(x))[: _KMEANS_SAMPLES_PER_LIST * n_lists]]
    centers = sample[:n_lists].copy()
    for _ in range(_KMEANS_ITERATIONS):
        owner = _nearest(sample, centers)
        rows = np.argsort(owner, kind="stable")
        nonempty, first = np.unique(owner[rows], return_index=True)
        centers[nonempty] = normalize_rows(np.add.reduceat(sample[rows], first, axis=0))
    owner = _nearest(x, centers)
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n_lists))])
    return InvertedFileIndex(np.argsort(owner, kind="stable"), starts.astype(np.int64), centers)


def normalize_rows(x: NDArray[np.floating]) -> Float32:
    """Return the rows of ``x`` scaled to length 1 as float32; rows of zeros are unchanged.

    ``sklearn.preprocessing.normalize`` also validates its input, which takes 0.29 ms for one row
    of 4,000 columns (this function: 0.014 ms) in every decision of a router.
    """
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    normalized: Float32 = (x / np.where(norm > 0, norm, 1)).astype(np.float32)
    return normalized


def _nearest(x: Float32, centers: Float32) -> Ints:
    blocks = (x[i : i + _BLOCK] for i in range(0, len(x), _BLOCK))
    return np.concatenate([(block @ centers.T).argmax(axis=1) for block in blocks])
