"""Time of selecting dissimilar prompts among 100,000 512-dimensional embeddings, compared with a
greedy loop and with the radius neighbors of scikit-learn.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from benchmarks.measure import Row, peak_gigabytes, seconds
from catimage.data.prompts.diversity import select_diverse

N, DIMENSION, MAX_SIMILARITY = 100_000, 512, 0.75
N_COMPARED = 8_000
"""Number of embeddings for the comparison; it is small because the time of the alternatives is
quadratic.
"""


def embeddings(n: int) -> np.ndarray:
    """Return unit vectors (n, DIMENSION), of which one fifth are similar to another vector.

    The data are a slow case, because most vectors are selected.
    """
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, DIMENSION)).astype(np.float32)
    vectors[n * 4 // 5 :] = vectors[: n - n * 4 // 5] + 0.3 * vectors[n * 4 // 5 :]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def greedy_loop(vectors: np.ndarray) -> list[int]:
    """Return the selected rows: vectors that are not similar to any vector selected before."""
    kept: list[int] = []
    kept_vectors = np.empty_like(vectors)
    for i, vector in enumerate(vectors):
        if not kept or (kept_vectors[: len(kept)] @ vector).max() < MAX_SIMILARITY:
            kept_vectors[len(kept)] = vector
            kept.append(i)
    return kept


def radius_neighbors(vectors: np.ndarray) -> list[int]:
    """Return the same rows as :func:`greedy_loop`, computed from the radius neighbors."""
    neighbors = (
        NearestNeighbors(radius=1 - MAX_SIMILARITY, metric="cosine")
        .fit(vectors)
        .radius_neighbors(vectors, return_distance=False)
    )
    kept = np.zeros(len(vectors), bool)
    for i, similar in enumerate(neighbors):
        kept[i] = not kept[similar[similar < i]].any()
    return np.flatnonzero(kept).tolist()


def rows() -> list[Row]:
    """Return one row for all embeddings, and one row per alternative."""
    subset = embeddings(N_COMPARED)
    expected = select_diverse(subset, MAX_SIMILARITY).tolist()
    assert expected == greedy_loop(subset) == radius_neighbors(subset)
    select_time = seconds(lambda: select_diverse(subset, MAX_SIMILARITY), repeats=1)
    loop_time = seconds(lambda: greedy_loop(subset), repeats=1)
    sklearn_time = seconds(lambda: radius_neighbors(subset), repeats=1)
    vectors = embeddings(N)
    total = seconds(lambda: select_diverse(vectors, MAX_SIMILARITY), repeats=1)
    title = f"similarity sampling, {N_COMPARED:,} x {DIMENSION}"
    time = f"{select_time:.2f} s"
    return [
        Row(
            f"similarity sampling, {N:,} x {DIMENSION}",
            f"{total:.1f} s, {peak_gigabytes():.1f} GB",
            target="60 s, 4 GB",
        ),
        Row(title, time, f"{loop_time:.2f} s (greedy loop)", f"{loop_time / select_time:.1f}x"),
        Row(
            title,
            time,
            f"{sklearn_time:.2f} s (scikit-learn, radius)",
            f"{sklearn_time / select_time:.1f}x",
        ),
    ]
