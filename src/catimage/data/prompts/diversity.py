"""Prompts that differ: no two nearer than a threshold in the encoder's space (CATImage 5.1;
BudgetFusion, equation 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

BLOCK = 1024
"""Prompts compared at once; with :data:`WIDE` kept ones a product takes 32 MB."""
WIDE = 8192


def diverse(
    embeddings: NDArray[np.float32], max_similarity: float, progress: bool = False
) -> NDArray[np.int64]:
    """Rows kept by the greedy filter: each is below ``max_similarity`` to every one kept before it.

    The papers say what holds of the set that is kept, not which of two near prompts goes: here the
    first in order stays, so that the result depends on the order of the prompts alone and prompts
    added at the end drop none of those before them. A threshold of 1 keeps everything, since
    rounding alone would decide whether equal embeddings have a similarity below 1.

    Args:
        embeddings: float32 (n, width), of unit length.
        max_similarity: cosine similarity, in (0, 1].
        progress: show a bar.

    Returns:
        int64 (n_kept,), ascending. Time grows with n * n_kept * width; memory is that of two copies
        of ``embeddings``.
    """
    if max_similarity >= 1:
        return np.arange(len(embeddings))
    kept, vectors = np.empty(len(embeddings), np.int64), np.empty_like(embeddings)
    n = 0
    for start in tqdm(
        range(0, len(embeddings), BLOCK), "comparing prompts", disable=not progress, unit="block"
    ):
        rows = np.arange(start, min(start + BLOCK, len(embeddings)))
        for first in range(0, n, WIDE):
            rows = rows[
                (embeddings[rows] @ vectors[first : min(first + WIDE, n)].T).max(axis=1)
                < max_similarity
            ]
        rows = rows[_first_of_each(embeddings[rows] @ embeddings[rows].T >= max_similarity)]
        kept[n : n + len(rows)], vectors[n : n + len(rows)] = rows, embeddings[rows]
        n += len(rows)
    return kept[:n]


def _first_of_each(near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The greedy filter within a block, from its (b, b) matrix of who is too near to whom."""
    alive = np.ones(len(near), bool)
    for i in range(len(near)):
        if alive[i]:
            alive[i + 1 :] &= ~near[i, i + 1 :]
    return alive


def nearest_earlier(
    embeddings: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The highest similarity of each row to one before it, and which that is: both (n,); -1 and -1
    for the first row.
    """
    values, places = (
        np.full(len(embeddings), -1, np.float32),
        np.full(len(embeddings), -1, np.int64),
    )
    for start in range(0, len(embeddings), BLOCK):
        stop = min(start + BLOCK, len(embeddings))
        for first in range(0, stop, WIDE):
            last = min(first + WIDE, stop)
            similarity = embeddings[start:stop] @ embeddings[first:last].T
            similarity[np.arange(start, stop)[:, None] <= np.arange(first, last)] = -np.inf
            best = similarity.argmax(axis=1)
            value = similarity[np.arange(stop - start), best]
            better = value > values[start:stop]
            values[start:stop][better], places[start:stop][better] = (
                value[better],
                best[better] + first,
            )
    return values, places
