"""Seconds and memory of fitting each kind on 5,000 prompts x 4 candidates, embeddings made
beforehand, and k or penalty given.
"""

from __future__ import annotations

from multiprocessing import get_context
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone

from benchmarks.measure import Row, peak_gigabytes

PROMPTS, WIDTH, CANDIDATES = 5000, 768, 4
SECONDS = {"knn": 5.0, "ridge": 5.0, "ridge on words": 5.0}
"""The targets; 180 for the others."""


def embeddings(n: int, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Unit vectors (n, width) that are like prompts' embeddings: a cone of a thousand overlapping
    topics, of a decaying spectrum.
    """
    topics, rng = np.random.default_rng(7), np.random.default_rng(seed)
    spectrum = (1 + np.arange(width)) ** -0.5
    centers = topics.normal(size=(1000, width)) * spectrum
    shares = rng.dirichlet(np.full(3, 0.5), size=n).astype(np.float32)
    x = np.full((n, width), 0.5 * spectrum, np.float32)
    for column in shares.T:
        x += (column[:, None] * centers[rng.integers(1000, size=n)]).astype(np.float32)
    x += (0.3 * rng.normal(size=(n, width)) * spectrum).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def labels(x: np.ndarray, candidates: int = CANDIDATES, seed: int = 0) -> np.ndarray:
    """Labels (n, candidates): a level that the candidates share, differences that are smaller, and
    noise that is larger than both.
    """
    rng = np.random.default_rng(seed)
    way = rng.normal(size=(x.shape[1], candidates + 1))
    signal = x @ way / (x @ way).std(axis=0)
    return 30 + 2 * signal[:, :1] + signal[:, 1:] + 3 * rng.normal(size=(len(x), candidates))


def texts(n: int, seed: int = 0) -> list[str]:
    """Prompts of 4 to 20 words, their frequencies as in a language (Zipf)."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(f"w{min(w, 30_000)}" for w in rng.zipf(1.3, size=rng.integers(4, 21)))
        for _ in range(n)
    ]


def regressors() -> dict[str, tuple[Any, Any]]:
    """What is fitted, and what scikit-learn has instead."""
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor

    from catimage.estimators.boosting import BoostingRegressor
    from catimage.estimators.clusters import ClusterRegressor
    from catimage.estimators.knn import CosineKNNRegressor
    from catimage.estimators.linear import RidgeRegressor
    from catimage.estimators.mlp import MLPRegressor
    from catimage.estimators.transformer import TokenMLPRegressor

    return {
        "knn": (
            CosineKNNRegressor(20),
            KNeighborsRegressor(20, metric="cosine", algorithm="brute"),
        ),
        "ridge": (RidgeRegressor(), Ridge(2.0)),
        "ridge on words": (RidgeRegressor(), Ridge(2.0)),
        "clusters": (ClusterRegressor(), None),
        "mlp": (MLPRegressor(), None),
        "boosting": (BoostingRegressor(), None),
        "transformer": (TokenMLPRegressor(), None),
    }


def features(name: str) -> Any:
    """What the kind reads: words, twelve tokens a prompt, or embeddings."""
    if name == "ridge on words":
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts(PROMPTS))
    if name == "transformer":
        from catimage.estimators.ragged_arrays import RaggedArray

        x = embeddings(PROMPTS)
        tokens = (
            np.repeat(x, 12, axis=0)
            + np.random.default_rng(1).normal(size=(12 * PROMPTS, WIDTH)).astype(np.float32) / 30
        )
        return RaggedArray(tokens.astype(np.float16), np.arange(0, 12 * PROMPTS + 1, 12))
    return embeddings(PROMPTS)


def one(name: str) -> tuple[float, float, float]:
    """Seconds of our fit, its peak of memory in GB (features and Python's own included), and
    seconds of the other way, 0 if none.
    """
    ours, theirs = regressors()[name]
    x, y = features(name), labels(embeddings(PROMPTS))
    spent = _seconds(ours, x, y)
    memory = peak_gigabytes()
    return spent, memory, _seconds(theirs, x, y) if theirs is not None else 0.0


def _seconds(regressor: Any, x: Any, y: np.ndarray) -> float:
    begun = perf_counter()
    clone(regressor).fit(x, y)
    return perf_counter() - begun


def rows() -> list[Row]:
    out = []
    for name in regressors():
        with get_context("spawn").Pool(
            1
        ) as process:  # a process each, so that none pays for another's memory
            ours, memory, theirs = process.apply(one, (name,))
        target = f"{SECONDS.get(name, 180.0):.0f} s, 2 GB"
        other = f"{theirs:.3f} s (scikit-learn)" if theirs else ""
        ratio = f"{ours / theirs:.1f}x its time" if theirs else ""
        out.append(
            Row(
                f"fit, {name}, {PROMPTS:,} x {CANDIDATES}",
                f"{ours:.3f} s, {memory:.2f} GB",
                other,
                ratio,
                target,
            )
        )
    return out
