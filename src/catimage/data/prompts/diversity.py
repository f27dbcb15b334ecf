"""Selection of prompts that are not too similar (CATImage 5.1; BudgetFusion, equation 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from catimage.common.arrays import Float32, Ints

BLOCK = 1024
"""Prompts compared at once, with at most :data:`WIDE` others: a product of 32 MB."""
WIDE = 8192


def select_diverse(embeddings: Float32, max_similarity: float, progress: bool = False) -> Ints:
    """Select rows greedily: a row is kept if it is dissimilar to every row kept before it.

    The papers require that no two kept prompts are too similar, and leave open which of two similar
    prompts is dropped. Here the first one in order is kept. The result then depends on the order of
    the prompts only, and prompts added at the end drop none of the earlier ones. A threshold of 1
    keeps every row, since rounding would decide whether equal embeddings are below it.

    Args:
        embeddings: unit vectors, (n, width).
        max_similarity: the cosine similarity from which a row is dropped, in (0, 1].
        progress: show a progress bar.

    Returns:
        The indices of the kept rows, (n_kept,), ascending. Time grows with n * n_kept * width;
        memory is that of two copies of ``embeddings``.
    """
    if max_similarity >= 1:
        return np.arange(len(embeddings))
    kept, vectors = np.empty(len(embeddings), np.int64), np.empty_like(embeddings)
    n = 0
    blocks = range(0, len(embeddings), BLOCK)
    for start in tqdm(blocks, "comparing prompts", disable=not progress, unit="block"):
        rows = np.arange(start, min(start + BLOCK, len(embeddings)))
        for first in range(0, n, WIDE):
            similarity = embeddings[rows] @ vectors[first : min(first + WIDE, n)].T
            rows = rows[similarity.max(axis=1) < max_similarity]
        rows = rows[_greedy(embeddings[rows] @ embeddings[rows].T >= max_similarity)]
        kept[n : n + len(rows)], vectors[n : n + len(rows)] = rows, embeddings[rows]
        n += len(rows)
    return kept[:n]


def _greedy(similar: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Apply the greedy selection within a block, given which pairs of rows are similar, (b, b)."""
    kept = np.ones(len(similar), bool)
    for i in range(len(similar)):
        if kept[i]:
            kept[i + 1 :] &= ~similar[i, i + 1 :]
    return kept


def nearest_earlier(embeddings: Float32) -> tuple[Float32, Ints]:
    """Return each row's highest similarity to an earlier row, and the index of that row.

    Args:
        embeddings: unit vectors, (n, width).

    Returns:
        Two arrays (n,); both are -1 for the first row.
    """
    values = np.full(len(embeddings), -1, np.float32)
    indices = np.full(len(embeddings), -1, np.int64)
    for start in range(0, len(embeddings), BLOCK):
        stop = min(start + BLOCK, len(embeddings))
        for first in range(0, stop, WIDE):
            last = min(first + WIDE, stop)
            similarity = embeddings[start:stop] @ embeddings[first:last].T
            similarity[np.arange(start, stop)[:, None] <= np.arange(first, last)] = -np.inf
            best = similarity.argmax(axis=1)
            value = similarity[np.arange(stop - start), best]
            better = value > values[start:stop]
            values[start:stop][better] = value[better]
            indices[start:stop][better] = best[better] + first
    return values, indices
