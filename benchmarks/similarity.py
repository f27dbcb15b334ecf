"""Similarity sampling of 100,000 x 512 embeddings, compared with a greedy loop and with
scikit-learn's radius neighbors.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from benchmarks.measure import Row, peak_gigabytes, seconds
from catimage.data.prompts.diversity import select_diverse

N, WIDTH, THRESHOLD = 100_000, 512, 0.75
N_COMPARED = 8_000
"""Number of embeddings on which the alternatives are timed, because their time is quadratic."""


def embeddings(n: int) -> np.ndarray:
    """Return unit vectors, one fifth of them similar to another vector and four fifths dissimilar.

    This is the most expensive case, because most vectors are kept.
    """
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, WIDTH)).astype(np.float32)
    vectors[n * 4 // 5 :] = vectors[: n - n * 4 // 5] + 0.3 * vectors[n * 4 // 5 :]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def greedy_loop(vectors: np.ndarray) -> list[int]:
    """Return the kept rows; each vector is compared with all vectors kept before."""
    kept: list[int] = []
    kept_vectors = np.empty_like(vectors)
    for i, vector in enumerate(vectors):
        if not kept or (kept_vectors[: len(kept)] @ vector).max() < THRESHOLD:
            kept_vectors[len(kept)] = vector
            kept.append(i)
    return kept


def radius_neighbors(vectors: np.ndarray) -> list[int]:
    """Return the kept rows, from all similar pairs found by scikit-learn."""
    neighbors = (
        NearestNeighbors(radius=1 - THRESHOLD, metric="cosine")
        .fit(vectors)
        .radius_neighbors(vectors, return_distance=False)
    )
    kept = np.zeros(len(vectors), bool)
    for i, similar in enumerate(neighbors):
        kept[i] = not kept[similar[similar < i]].any()
    return np.flatnonzero(kept).tolist()


def rows() -> list[Row]:
    """Return the rows of the benchmark table."""
    subset = embeddings(N_COMPARED)
    expected = select_diverse(subset, THRESHOLD).tolist()
    assert expected == greedy_loop(subset) == radius_neighbors(subset)
    package, loop, sklearn = (
        seconds(lambda f=function: f(subset), repeats=1)
        for function in (lambda x: select_diverse(x, THRESHOLD), greedy_loop, radius_neighbors)
    )
    vectors = embeddings(N)
    total = seconds(lambda: select_diverse(vectors, THRESHOLD), repeats=1)
    title = f"similarity sampling, {N_COMPARED:,} x {WIDTH}"
    time = f"{package:.2f} s"
    return [
        Row(
            f"similarity sampling, {N:,} x {WIDTH}",
            f"{total:.1f} s, {peak_gigabytes():.1f} GB",
            target="60 s, 4 GB",
        ),
        Row(title, time, f"{loop:.2f} s (greedy loop)", f"{loop / package:.1f}x"),
        Row(title, time, f"{sklearn:.2f} s (scikit-learn, radius)", f"{sklearn / package:.1f}x"),
    ]
