"""The K-nearest-neighbors estimator of CATImage 5.1, with an index for fast single predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from catimage.common.arrays import Float32, Floats, Ints
from catimage.errors import InputError
from catimage.estimators.base import LabelRegressor, missing_label_patterns
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.ivf import build_index, normalize_rows
from catimage.params import EstimatorParams

AUTO, BRUTE, IVF = "auto", "brute", "ivf"
_MAX_BRUTE_PROMPTS, _MAX_BRUTE_NUMBERS = 20_000, 2**22
"""Largest number of training prompts, and of numbers in their embeddings, for which brute force
takes less than a millisecond per prediction.
"""
_MAX_SIMILARITIES = 2**22
"""Number of similarities that are in memory at once."""


@dataclass(frozen=True)
class _Comparison:
    """Some query prompts, the training prompts that they are compared with, and the similarities
    (n_queries, n_compared).
    """

    queries: Ints
    compared: Ints
    similarity: Float32


class CosineKNNRegressor(LabelRegressor):
    """Mean label of the ``n_neighbors`` training prompts with the largest cosine similarity.

    The neighbors of a candidate are the nearest prompts that have a label of this candidate; if
    there are fewer than ``n_neighbors`` such prompts, all of them.

    Few training prompts (up to 5,461 of width 768) are searched by brute force. More are searched
    approximately by an inverted file index (:mod:`~catimage.estimators.ivf`), because a decision
    among 100,000 prompts of width 768 has to take less than 1 ms on one CPU core. There, this class
    takes 0.7 ms and finds 93% of the true neighbors; scikit-learn's ``KNeighborsRegressor``, which
    has no approximate search, takes 300 ms (``benchmarks/decision.py``).

    Args:
        n_neighbors: number of neighbors.
        algorithm: ``brute``, ``ivf``, or ``auto``: brute force for few training prompts.
        min_compared: minimum number of training prompts that the index compares a prompt with.
        random_state: seed of the index.

    Attributes:
        embeddings_: unit vectors of the training prompts (n_prompts, width), in the order of the
            index.
        labels_: labels of the training prompts (n_prompts, n_candidates), in the same order.
        centers_, starts_: centers and boundaries of the lists of the index.
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        algorithm: str = AUTO,
        min_compared: int = 1200,
        random_state: int = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.algorithm = algorithm
        self.min_compared = min_compared
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Store embeddings X (n_prompts, width) and labels y (n_prompts, n_candidates) or
        (n_prompts,), NaN if missing.

        Raises:
            InputError: there are fewer training prompts than neighbors.
            ValueError: ``algorithm`` is unknown.
        """
        X, y = self._validate_training_data(X, y)
        self._check_settings(len(X))
        x = normalize_rows(X)
        self.starts_, self.centers_ = np.array([0, len(x)]), np.zeros((1, x.shape[1]), np.float32)
        if self._uses_index(x):
            index = build_index(x, self.random_state)
            x, y = x[index.order].astype(np.float16), y[index.order]
            self.starts_, self.centers_ = index.starts, index.centers
        self.embeddings_, self.labels_ = x.astype(np.float32, copy=False), y
        self._group_candidates()
        return self

    def predict(self, X: Any) -> Floats:
        """Return the expected quality in the unit of the metric: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, dtype=np.float32)
        out = np.empty((len(x), self.labels_.shape[1]))
        for c in self._comparisons(x):
            for columns, labelled in zip(self.columns_, self.labelled_, strict=True):
                nearest = _nearest(c.similarity, labelled[c.compared], self.n_neighbors)
                labels = self.labels_[c.compared[nearest][:, :, None], columns]
                out[c.queries[:, None], columns] = labels.mean(axis=1)
        return self._restore_shape(out)

    def neighbors(self, X: Any) -> Ints:
        """Return the rows of ``embeddings_`` that are nearest to each prompt, with or without
        labels: (n_prompts, n_neighbors).
        """
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, dtype=np.float32)
        rows = []
        for c in self._comparisons(x):
            everything = np.ones(len(c.compared), bool)
            rows.append(c.compared[_nearest(c.similarity, everything, self.n_neighbors)])
        return np.concatenate(rows)

    def multiply_adds(self, X: Any) -> int:
        """Return the number of multiply-adds of ``predict(X)``: a product with each center of the
        index, and with each training prompt that is compared.
        """
        x = np.asarray(X, np.float32)
        compared = sum(len(c.queries) * len(c.compared) for c in self._comparisons(x))
        centers = len(x) * len(self.centers_) if len(self.centers_) > 1 else 0
        return int((compared + centers) * self.embeddings_.shape[1])

    def _check_settings(self, n_prompts: int) -> None:
        if self.algorithm not in (AUTO, BRUTE, IVF):
            raise ValueError(
                f"algorithm: unknown value {self.algorithm!r}. Use {AUTO!r}, {BRUTE!r} or {IVF!r}."
            )
        if not 1 <= self.n_neighbors <= n_prompts:
            raise InputError(
                f"train.estimators: n_neighbors is {self.n_neighbors}, but there are {n_prompts}"
                f" training prompts (n_samples = {n_prompts}). Set it to a number from 1 to"
                f" {n_prompts}."
            )

    def _uses_index(self, x: Float32) -> bool:
        if self.algorithm != AUTO:
            return self.algorithm == IVF
        return len(x) > _MAX_BRUTE_PROMPTS or x.size > _MAX_BRUTE_NUMBERS

    def _comparisons(self, x: Float32) -> Iterator[_Comparison]:
        if len(self.centers_) == 1:
            return self._compare_with_all(x)
        return (self._compare_by_index(i, row) for i, row in enumerate(x))

    def _compare_with_all(self, x: Float32) -> Iterator[_Comparison]:
        everything = np.arange(len(self.embeddings_))
        block = max(1, _MAX_SIMILARITIES // len(everything))
        for i in range(0, len(x), block):
            queries = np.arange(i, min(i + block, len(x)))
            yield _Comparison(queries, everything, x[i : i + block] @ self.embeddings_.T)

    def _compare_by_index(self, i: int, query: Float32) -> _Comparison:
        """Compare one prompt with the lists of the nearest centers: as many lists as have enough
        labels of every candidate.
        """
        by_similarity = np.argsort(-(self.centers_ @ query), kind="stable")
        required = np.minimum(
            max(self.min_compared, 4 * self.n_neighbors), self.list_counts_.sum(axis=1)
        )
        enough = np.cumsum(self.list_counts_[:, by_similarity], axis=1) >= required[:, None]
        lists = by_similarity[: int(enough.argmax(axis=1).max()) + 1]
        spans = [(self.starts_[j], self.starts_[j + 1]) for j in lists]
        similarity = np.concatenate([self.embeddings_[a:b] @ query for a, b in spans])
        compared = np.concatenate([np.arange(a, b) for a, b in spans])
        return _Comparison(np.array([i]), compared, similarity[None])

    def _group_candidates(self) -> None:
        """Group the candidates that have labels of the same prompts.

        ``columns_`` has the candidates of each group, ``labelled_`` (n_groups, n_prompts) the
        prompts with labels, and ``list_counts_`` (n_groups, n_lists) their number in each list.
        """
        labelled, self.columns_ = zip(*missing_label_patterns(self.labels_), strict=True)
        self.labelled_ = np.stack(labelled)
        n_lists = len(self.centers_)
        owner = np.repeat(np.arange(n_lists), np.diff(self.starts_))
        self.list_counts_ = np.stack(
            [np.bincount(owner, weights=present, minlength=n_lists) for present in self.labelled_]
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with embeddings of an index in half precision, without loss: ``fit`` has
        rounded them.
        """
        state: dict[str, Any] = super().__getstate__()
        if len(state.get("centers_", ())) > 1:
            state = state | {"embeddings_": state["embeddings_"].astype(np.float16)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state returned by :meth:`__getstate__`."""
        if "embeddings_" in state:
            state = state | {"embeddings_": state["embeddings_"].astype(np.float32)}
        super().__setstate__(state)


def _nearest(similarity: Float32, eligible: NDArray[np.bool_], k: int) -> Ints:
    """Return the columns of the ``k`` largest similarities (n, m) among the eligible columns (m,),
    or all eligible columns if they are fewer than ``k``.
    """
    if not eligible.all():
        similarity, k = np.where(eligible, similarity, -np.inf), min(k, int(eligible.sum()))
    n_columns = similarity.shape[1]
    return np.argpartition(similarity, n_columns - k, axis=1)[:, n_columns - k :]


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return the K-nearest-neighbors estimator of CATImage 5.1.

    The paper does not state the number of neighbors; it is selected on the validation split.
    """
    return UnfittedEstimator(
        CosineKNNRegressor(random_state=context.seed),
        {"n_neighbors": [3, 5, 8, 12, 20, 32, 50, 80]},
    )
