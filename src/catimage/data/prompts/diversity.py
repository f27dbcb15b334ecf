"""Selection of prompts that are not too similar.

See the CATImage paper, section 5.1, and the BudgetFusion paper, equation 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from catimage.common.arrays import Float32, Ints

BLOCK_ROWS, BLOCK_COLUMNS = 1024, 8192
"""The size of the blocks in which matrices of similarities are computed: 32 MB of float32."""


def select_diverse(embeddings: Float32, max_similarity: float, progress: bool = False) -> Ints:
    """Select rows greedily: a row is kept if it is dissimilar to every row kept before it.

    The papers require that no two kept prompts are too similar, and leave open which of two similar
    prompts is dropped. Here the first one in order is kept. The result then depends only on the
    order of the prompts, and prompts that are added at the end do not change the selection of the
    earlier ones. If ``max_similarity`` is 1, every row is kept, because the computed similarity of
    equal embeddings can be below or above 1.

    Args:
        embeddings: unit vectors, (n, width).
        max_similarity: a number in (0, 1]; a row is dropped if its cosine similarity to a kept row
            is at least this number.
        progress: whether to show a progress bar.

    Returns:
        The indices of the kept rows, (n_kept,), ascending. Time grows with n * n_kept * width;
        memory is that of two copies of ``embeddings``.
    """
    if max_similarity >= 1:
        return np.arange(len(embeddings))
    kept, vectors = np.empty(len(embeddings), np.int64), np.empty_like(embeddings)
    n_kept = 0
    blocks = range(0, len(embeddings), BLOCK_ROWS)
    for start in tqdm(blocks, "comparing prompts", disable=not progress, unit="block"):
        rows = np.arange(start, min(start + BLOCK_ROWS, len(embeddings)))
        for first in range(0, n_kept, BLOCK_COLUMNS):
            similarity = embeddings[rows] @ vectors[first : min(first + BLOCK_COLUMNS, n_kept)].T
            rows = rows[similarity.max(axis=1) < max_similarity]
        rows = rows[_greedy(embeddings[rows] @ embeddings[rows].T >= max_similarity)]
        new = slice(n_kept, n_kept + len(rows))
        kept[new], vectors[new] = rows, embeddings[rows]
        n_kept += len(rows)
    return kept[:n_kept]


def _greedy(similar: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Select rows of one block greedily.

    Args:
        similar: whether each pair of rows is too similar, (n_rows, n_rows).

    Returns:
        Whether each row is kept, (n_rows,).
    """
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
        The similarities and the indices, (n,) each; both are -1 for the first row.
    """
    values = np.full(len(embeddings), -1, np.float32)
    indices = np.full(len(embeddings), -1, np.int64)
    for start in range(0, len(embeddings), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(embeddings))
        for first in range(0, stop, BLOCK_COLUMNS):
            last = min(first + BLOCK_COLUMNS, stop)
            similarity = embeddings[start:stop] @ embeddings[first:last].T
            similarity[np.arange(start, stop)[:, None] <= np.arange(first, last)] = -np.inf
            best = similarity.argmax(axis=1)
            value = similarity[np.arange(stop - start), best]
            better = value > values[start:stop]
            values[start:stop][better] = value[better]
            indices[start:stop][better] = best[better] + first
    return values, indices
