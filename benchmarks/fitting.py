"""Time and memory of fitting each kind of regressor to 5,000 prompts and 4 candidates. The
computation of embeddings and the selection of hyper-parameters are not included.
"""

from __future__ import annotations

from multiprocessing import get_context
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone

from benchmarks.measure import Row, peak_gigabytes

PROMPTS, WIDTH, CANDIDATES, KERNEL_COMPONENTS = 5000, 768, 4, 1000
TARGET_SECONDS = {"knn": 5.0, "ridge": 5.0, "ridge on words": 5.0}
"""Maximum time of a fit by regressor; 180 seconds for the other regressors."""


def embeddings(n: int, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Return unit vectors (n, width) with a distribution like that of embeddings of prompts:
    mixtures of three of a thousand topics plus a common direction, with a decaying spectrum.
    """
    topics, rng = np.random.default_rng(7), np.random.default_rng(seed)
    spectrum = (1 + np.arange(width)) ** -0.5
    centers = topics.normal(size=(1000, width)) * spectrum
    shares = rng.dirichlet(np.full(3, 0.5), size=n).astype(np.float32)
    x = np.full((n, width), 0.5 * spectrum, np.float32)
    for column in shares.T:
        x += (column[:, None] * centers[rng.integers(1000, size=n)]).astype(np.float32)
    x += (0.3 * rng.normal(size=(n, width)) * spectrum).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def labels(x: np.ndarray, candidates: int = CANDIDATES, seed: int = 0) -> np.ndarray:
    """Return labels (n, candidates) of prompts with embeddings ``x`` (n, width).

    A label is the sum of a signal that is common to all candidates, a smaller signal of the
    candidate, and noise whose standard deviation is larger than both.
    """
    rng = np.random.default_rng(seed)
    coefficients = rng.normal(size=(x.shape[1], candidates + 1))
    signal = x @ coefficients / (x @ coefficients).std(axis=0)
    noise = rng.normal(size=(len(x), candidates))
    values: np.ndarray = 30 + 2 * signal[:, :1] + signal[:, 1:] + 3 * noise
    return values


def random_prompts(n: int, seed: int = 0) -> list[str]:
    """Return prompts of 4 to 20 random words, whose frequencies follow Zipf's law."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(f"w{min(w, 30_000)}" for w in rng.zipf(1.3, size=rng.integers(4, 21)))
        for _ in range(n)
    ]


def regressors() -> dict[str, tuple[Any, Any]]:
    """Return each regressor and its scikit-learn alternative (None if there is none), by name."""
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor

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
        "ridge on words and kernel": (RidgeRegressor(), None),
        "clusters": (ClusterRegressor(), None),
        "mlp": (MLPRegressor(), None),
        "transformer": (TokenMLPRegressor(), None),
    }


def features(name: str) -> Any:
    """Return the features of the regressor ``name``: TF-IDF with or without dense columns, twelve
    token embeddings per prompt, or embeddings (PROMPTS, WIDTH).
    """
    if name.startswith("ridge on words"):
        return _word_features(KERNEL_COMPONENTS if name.endswith("kernel") else 0)
    if name == "transformer":
        from catimage.estimators.ragged_arrays import RaggedArray

        tokens = np.repeat(embeddings(PROMPTS), 12, axis=0)
        noise = np.random.default_rng(1).normal(size=tokens.shape).astype(np.float32) / 30
        offsets = np.arange(0, len(tokens) + 1, 12)
        return RaggedArray((tokens + noise).astype(np.float16), offsets)
    return embeddings(PROMPTS)


def _word_features(dense_columns: int) -> Any:
    """Return sparse TF-IDF features and the given number of dense columns."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
    tfidf = vectorizer.fit_transform(random_prompts(PROMPTS))
    if not dense_columns:
        return tfidf
    return hstack([tfidf, csr_matrix(embeddings(PROMPTS, dense_columns))], "csr")


def measure(name: str) -> tuple[float, float, float]:
    """Return the time of fitting the regressor ``name`` in seconds, the peak memory of the process
    in GB, and the time of fitting its alternative in scikit-learn in seconds (0 if there is none).
    """
    regressor, alternative = regressors()[name]
    x, y = features(name), labels(embeddings(PROMPTS))
    fit_seconds = _fit_seconds(regressor, x, y)
    memory = peak_gigabytes()
    return fit_seconds, memory, _fit_seconds(alternative, x, y) if alternative is not None else 0.0


def _fit_seconds(regressor: Any, x: Any, y: np.ndarray) -> float:
    """Return the time of fitting a clone of the regressor in seconds."""
    start = perf_counter()
    clone(regressor).fit(x, y)
    return perf_counter() - start


def rows() -> list[Row]:
    """Return one row per regressor. Each is fitted in a separate process, to measure its memory."""
    table = []
    for name in regressors():
        with get_context("spawn").Pool(1) as process:
            fit_seconds, memory, alternative = process.apply(measure, (name,))
        row = Row(
            f"fit, {name}, {PROMPTS:,} x {CANDIDATES}",
            f"{fit_seconds:.3f} s, {memory:.2f} GB",
            f"{alternative:.3f} s (scikit-learn)" if alternative else "",
            f"{fit_seconds / alternative:.1f}x its time" if alternative else "",
            f"{TARGET_SECONDS.get(name, 180.0):.0f} s, 2 GB",
        )
        table.append(row)
    return table
