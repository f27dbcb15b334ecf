"""The K-nearest-neighbours estimator of CATImage 5.1, fast for one prompt at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from catimage.common.arrays import Float32, Floats
from catimage.errors import InputError
from catimage.estimators.base import LabelRegressor
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.ivf import lists_of, unit
from catimage.params import EstimatorParams

_EXACT_ROWS, _EXACT_NUMBERS = 20_000, 2**22
"""Prompts, and numbers in their embeddings, up to which one is compared with all of them within a
millisecond.
"""
_SIMILARITIES = 2**22
"""Held at once, so that memory does not grow with the prompts that are predicted."""


class CosineKNNRegressor(LabelRegressor):
    """The mean label of the ``n_neighbors`` training prompts with the largest cosine similarity.

    A prompt is compared with all training prompts where these are few (5,461 of width 768). Beyond,
    they are kept by the nearest of some centres (:mod:`~catimage.estimators.ivf`), and a prompt is
    compared with those of the nearest centres, ``scanned`` of them at least: most of the neighbours
    are the true ones, and a decision stays within a millisecond.

    A candidate's neighbours are the nearest prompts that have a label of it; if fewer than
    ``n_neighbors`` have one, all of those.

    Args:
        exact: compare with all, however many they are; None: where they are few.
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        scanned: int = 1200,
        exact: bool | None = None,
        random_state: int = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.scanned = scanned
        self.exact = exact
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Keeps embeddings X (n_prompts, width) and labels y (n_prompts, n_candidates) or
        (n_prompts,), NaN where missing.

        Raises:
            InputError: fewer prompts than neighbours.
        """
        X, y = self._checked(X, y)
        if not 1 <= self.n_neighbors <= len(X):
            there = f"there are {len(X)} training prompts (n_samples = {len(X)})"
            raise InputError(
                f"train.estimators: n_neighbors is {self.n_neighbors}, but {there}: set it to one"
                f" of 1 to {len(X)}."
            )
        x, few = unit(X), len(X) <= _EXACT_ROWS and X.size <= _EXACT_NUMBERS
        self.starts_, self.centers_ = np.array([0, len(x)]), np.zeros((1, x.shape[1]), np.float32)
        if not (few if self.exact is None else self.exact):
            lists = lists_of(x, self.random_state)
            x, y, self.starts_, self.centers_ = (
                x[lists.order].astype(np.float16),
                y[lists.order],
                lists.starts,
                lists.centers,
            )
        self.known_, self.labels_ = x.astype(np.float32, copy=False), y
        self._group()
        return self

    def predict(self, X: Any) -> Floats:
        """Expected quality in the metric's unit: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, dtype=np.float32)
        out = np.empty((len(x), self.labels_.shape[1]))
        for rows, known, similarity in self._compared(x):
            for columns, there in zip(self.columns_, self.there_, strict=True):
                near = _nearest(similarity, there[known], self.n_neighbors)
                out[rows[:, None], columns] = self.labels_[known[near][:, :, None], columns].mean(
                    axis=1
                )
        return self._shaped(out)

    def neighbours(self, X: Any) -> NDArray[np.int64]:
        """Rows of ``known_`` and ``labels_`` that are nearest to each of ``X``, whatever labels
        they have: (n_prompts, n_neighbors).
        """
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, dtype=np.float32)
        return np.concatenate(
            [
                k[_nearest(s, np.ones(len(k), bool), self.n_neighbors)]
                for _, k, s in self._compared(x)
            ]
        )

    def multiply_adds(self, X: Any) -> int:
        """Of the predictions for ``X``: a product with each centre, and with each training prompt
        that it is compared with.
        """
        compared = sum(
            len(rows) * len(known) for rows, known, _ in self._compared(np.asarray(X, np.float32))
        )
        centers = len(X) * len(self.centers_) if len(self.centers_) > 1 else 0
        return int((compared + centers) * self.known_.shape[1])

    def _compared(
        self, x: Float32
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Float32]]:
        """Rows of ``x``, the training prompts that they are compared with, and their similarities
        (n_rows, n_prompts).
        """
        if len(self.centers_) == 1:
            everything, block = (
                np.arange(len(self.known_)),
                max(1, _SIMILARITIES // len(self.known_)),
            )
            for i in range(0, len(x), block):
                part = x[i : i + block]
                yield np.arange(i, i + len(part)), everything, part @ self.known_.T
            return
        for i, row in enumerate(x):
            by_center = np.argsort(-(self.centers_ @ row), kind="stable")
            enough = (
                np.cumsum(self.counts_[:, by_center], axis=1)
                >= np.minimum(self._least, self.counts_.sum(axis=1))[:, None]
            )
            lists = by_center[: int(enough.argmax(axis=1).max()) + 1]
            spans = [(self.starts_[j], self.starts_[j + 1]) for j in lists]
            similarity = np.concatenate([self.known_[a:b] @ row for a, b in spans])
            yield (
                np.array([i]),
                np.concatenate([np.arange(a, b) for a, b in spans]),
                similarity[None],
            )

    @property
    def _least(self) -> int:
        return max(self.scanned, 4 * self.n_neighbors)

    def _group(self) -> None:
        """Candidates whose labels the same prompts have, and these prompts: each group's and list's
        are counted in ``counts_``.
        """
        there, group = np.unique(~np.isnan(self.labels_), axis=1, return_inverse=True)
        self.there_ = there.T.copy()
        self.columns_ = [np.flatnonzero(np.ravel(group) == g) for g in range(there.shape[1])]
        owner = np.repeat(np.arange(len(self.centers_)), np.diff(self.starts_))
        self.counts_ = np.stack(
            [np.bincount(owner, weights=t, minlength=len(self.centers_)) for t in self.there_]
        )

    def __getstate__(self) -> dict[str, Any]:
        """On disk, what is looked up by lists is in half precision, which it has been rounded to."""
        state: dict[str, Any] = super().__getstate__()
        if len(state.get("centers_", ())) > 1:
            state = state | {"known_": state["known_"].astype(np.float16)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What :meth:`__getstate__` gave."""
        super().__setstate__(
            state | ({"known_": state["known_"].astype(np.float32)} if "known_" in state else {})
        )


def _nearest(similarity: Float32, there: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    """Columns of the ``k`` largest similarities (n, m) among those that are there (m,), or all of
    those if they are fewer.
    """
    if not there.all():
        similarity, k = np.where(there, similarity, -np.inf), min(k, int(there.sum()))
    return np.argpartition(similarity, similarity.shape[1] - k, axis=1)[
        :, similarity.shape[1] - k :
    ]


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """CATImage 5.1: the mean label of the k nearest training prompts; the paper gives no k, so
    validation chooses it.
    """
    return UnfittedEstimator(
        CosineKNNRegressor(random_state=context.seed),
        {"n_neighbors": [3, 5, 8, 12, 20, 32, 50, 80]},
    )
