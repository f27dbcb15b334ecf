"""Similarity sampling of 100,000 x 512 embeddings, beside the greedy loop that one would write and
scikit-learn's neighbours.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from benchmarks.measure import Row, peak_gigabytes, seconds
from catimage.data.prompts.diversity import select_diverse

N, WIDTH, THRESHOLD = 100_000, 512, 0.75
FEW = 8_000
"""Embeddings of the subset on which the others are timed too: their time grows with the square."""


def embeddings(n: int) -> np.ndarray:
    """Unit vectors, a fifth of them near another: the others are all kept, which is the dearest
    case.
    """
    rng = np.random.default_rng(0)
    made = rng.normal(size=(n, WIDTH)).astype(np.float32)
    made[n * 4 // 5 :] = made[: n - n * 4 // 5] + 0.3 * made[n * 4 // 5 :]
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def loop(vectors: np.ndarray) -> list[int]:
    """Each prompt against all that were kept before it."""
    kept: list[int] = []
    chosen = np.empty_like(vectors)
    for i, vector in enumerate(vectors):
        if not kept or (chosen[: len(kept)] @ vector).max() < THRESHOLD:
            chosen[len(kept)] = vector
            kept.append(i)
    return kept


def neighbours(vectors: np.ndarray) -> list[int]:
    """All pairs within the threshold by scikit-learn, and then one pass over them."""
    near = (
        NearestNeighbors(radius=1 - THRESHOLD, metric="cosine")
        .fit(vectors)
        .radius_neighbors(vectors, return_distance=False)
    )
    kept = np.zeros(len(vectors), bool)
    for i, others in enumerate(near):
        kept[i] = not kept[others[others < i]].any()
    return np.flatnonzero(kept).tolist()


def rows() -> list[Row]:
    few = embeddings(FEW)
    assert select_diverse(few, THRESHOLD).tolist() == loop(few) == neighbours(few)
    ours, plain, library = (
        seconds(lambda f=f: f(few), repeats=1)
        for f in (lambda x: select_diverse(x, THRESHOLD), loop, neighbours)
    )
    many = embeddings(N)
    whole = seconds(lambda: select_diverse(many, THRESHOLD), repeats=1)
    what = f"similarity sampling, {FEW:,} x {WIDTH}"
    return [
        Row(
            f"similarity sampling, {N:,} x {WIDTH}",
            f"{whole:.1f} s, {peak_gigabytes():.1f} GB",
            target="60 s, 4 GB",
        ),
        Row(what, f"{ours:.2f} s", f"{plain:.2f} s (greedy loop)", f"{plain / ours:.1f}x"),
        Row(
            what,
            f"{ours:.2f} s",
            f"{library:.2f} s (scikit-learn, radius)",
            f"{library / ours:.1f}x",
        ),
    ]
