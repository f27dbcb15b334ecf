"""Selection of new prompts that are far from the prompts that exist."""

from __future__ import annotations

import numpy as np

from catimage.common.arrays import Float32, Floats, Ints
from catimage.data.prompts.diversity import BLOCK_COLUMNS, BLOCK_ROWS


def select_novel(
    embeddings: Float32, existing: Float32, limit: int, max_similarity: float
) -> tuple[Ints, Floats]:
    """Select rows one after the other, each the farthest from all existing and selected rows.

    This is the farthest-first traversal (Gonzalez, "Clustering to minimize the maximum intercluster
    distance", 1985), the greedy selection of a core-set. Of equally far rows, the first is
    selected. A selected row is never too similar to another one, or to an existing one. If
    ``max_similarity`` is 1, every row is dissimilar enough, as in
    :func:`catimage.data.prompts.diversity.select_diverse`.

    Args:
        embeddings: unit vectors of the new rows, (n, width), the preferred ones first.
        existing: unit vectors, (n_existing, width).
        limit: the largest number of rows to select.
        max_similarity: a number in (0, 1]; rows whose cosine similarity to an existing or selected
            row is at least this number are not selected.

    Returns:
        The indices of the selected rows in the order of their selection, (n_selected,), and the
        highest similarity of each to the existing and the earlier selected rows, (n_selected,),
        NaN if there was none.
    """
    nearest = highest_similarity(embeddings, existing)
    chosen: list[int] = []
    similarities: list[float] = []
    bound = np.inf if max_similarity >= 1 else max_similarity
    while len(chosen) < min(limit, len(embeddings)) and nearest.min() < bound:
        row = int(nearest.argmin())
        chosen.append(row)
        similarities.append(float(nearest[row]))
        nearest = np.maximum(nearest, embeddings @ embeddings[row])
        nearest[chosen] = np.inf
    values = np.array(similarities, np.float64)
    return np.array(chosen, np.int64), np.where(values < -1.5, np.nan, values)


def highest_similarity(embeddings: Float32, existing: Float32) -> Float32:
    """Return the highest cosine similarity of each row to an existing row.

    Args:
        embeddings: unit vectors, (n, width).
        existing: unit vectors, (n_existing, width).

    Returns:
        The similarities, (n,); -2 if nothing exists.
    """
    values = np.full(len(embeddings), -2, np.float32)
    for start in range(0, len(embeddings), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        for first in range(0, len(existing), BLOCK_COLUMNS):
            similarity = embeddings[rows] @ existing[first : first + BLOCK_COLUMNS].T
            values[rows] = np.maximum(values[rows], similarity.max(axis=1))
    return values
