"""The estimators by name: each a scikit-learn ``Pipeline`` of a feature step and a multi-output regressor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import Pipeline

from catimage.errors import InputError, nearest
from catimage.estimators.features import PooledEmbedding, TokenEmbedding
from catimage.estimators.knn import CosineKNNRegressor
from catimage.estimators.transformer import TokenMLPRegressor
from catimage.params import Encoder

Floats = NDArray[np.float64]


def _knn(encoder: dict[str, Any], seed: int) -> tuple[Pipeline, dict[str, list[Any]]]:
    """CATImage 5.1: the mean label of the k nearest training prompts; the paper gives no k, so validation chooses it.

    The embeddings have unit length, so the nearest by dot product are the nearest by cosine.
    """
    regressor = CosineKNNRegressor(algorithm="brute")
    return Pipeline([("features", PooledEmbedding(**encoder)), ("regressor", regressor)]), {
        "regressor__n_neighbors": [3, 5, 8, 12, 20, 32, 50, 80]
    }


def _transformer(encoder: dict[str, Any], seed: int) -> tuple[Pipeline, dict[str, list[Any]]]:
    """CATImage 5.1's Transformer-based estimator."""
    return Pipeline([("features", TokenEmbedding(**encoder)), ("regressor", TokenMLPRegressor(random_state=seed))]), {}


def _ridge(encoder: dict[str, Any], seed: int) -> tuple[Pipeline, dict[str, list[Any]]]:
    """Ridge on TF-IDF of words and pairs of words: needs no encoder, so it is the default for imported scores."""
    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    grid = {"regressor__alpha": [float(a) for a in np.logspace(-1, 3, 9)]}
    return Pipeline([("features", features), ("regressor", Ridge(random_state=seed))]), grid


_MAKERS: dict[str, Callable[[dict[str, Any], int], tuple[Pipeline, dict[str, list[Any]]]]] = {
    "knn": _knn,
    "transformer": _transformer,
    "ridge": _ridge,
}
NAMES = tuple(_MAKERS)


def build(name: str, encoder: Encoder, stored: str | None = None, seed: int = 0) -> tuple[Pipeline, dict[str, list[Any]]]:
    """An unfitted estimator and the parameters among which the validation split chooses (empty: none).

    Args:
        name: one of :data:`NAMES`.
        encoder: the text encoder that its features name.
        stored: a folder of embeddings that the sample stage made, to look prompts up in.
        seed: for whatever is random in the fit.

    Raises:
        InputError: no estimator of that name.
    """
    if name not in _MAKERS:
        raise InputError(f"train.estimators: no estimator {name!r}{nearest(name, NAMES)}; there are {', '.join(NAMES)}.")
    return _MAKERS[name]({**encoder.model_dump(), "stored": stored}, seed)


def fit(pipeline: Pipeline, grid: dict[str, list[Any]], train: tuple[Any, Floats], val: tuple[Any, Floats]) -> Pipeline:
    """Fits on the training split, with the parameters of ``grid`` that err least (mean squared error) on the validation split.

    Args:
        pipeline: unfitted; ``train`` and ``val`` are prompts (n,) and labels (n, n_candidates).
    """
    grid = {k: [v for v in values if k != "regressor__n_neighbors" or v <= len(train[1])] for k, values in grid.items()}
    if grid:
        prompts, labels = np.concatenate([train[0], val[0]]), np.concatenate([train[1], val[1]])
        fold = PredefinedSplit(np.repeat([-1, 0], [len(train[1]), len(val[1])]))
        search = GridSearchCV(clone(pipeline), grid, cv=fold, scoring="neg_mean_squared_error", refit=False).fit(prompts, labels)
        pipeline = pipeline.set_params(**search.best_params_)
    fitted: Pipeline = pipeline.fit(*train)
    return fitted
