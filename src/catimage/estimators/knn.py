"""The k-nearest-neighbors estimator (CATImage paper, section 5.1), with an index for fast single
predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Float32, Floats, Ints
from catimage.errors import InputError
from catimage.estimators.base import LabelRegressor, missing_label_patterns
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.ivf import build_index, normalize_rows
from catimage.params import EstimatorParams

AUTO, BRUTE, IVF = "auto", "brute", "ivf"
_MAX_BRUTE_PROMPTS, _MAX_BRUTE_NUMBERS = 20_000, 2**22
"""Largest number of training prompts, and largest size of the array of their embeddings, for which
brute force takes less than a millisecond per prediction.
"""
_MAX_SIMILARITIES = 2**22
"""Maximum number of similarities in memory at the same time."""


@dataclass(frozen=True)
class _Comparison:
    """A comparison of some queries with some training prompts.

    Attributes:
        queries: row numbers of the queries, (n_queries,).
        compared: row numbers of the training prompts, (n_compared,).
        similarity: cosine similarities (n_queries, n_compared).
    """

    queries: Ints
    compared: Ints
    similarity: Float32


class CosineKNNRegressor(LabelRegressor):
    """Regressor that predicts the mean label of the ``n_neighbors`` training prompts with the
    largest cosine similarity.

    For each candidate, the neighbors are the nearest training prompts that have a label of this
    candidate. If fewer than ``n_neighbors`` prompts have a label, all of them are used.

    Up to 5,461 training prompts with 768-dimensional embeddings are searched by brute force. A
    larger number is searched approximately with an inverted file index
    (:mod:`~catimage.estimators.ivf`), because a decision with 100,000 such training prompts has to
    take less than 1 ms on one CPU core. With the index, it takes 0.7 ms, and 93% of the true
    neighbors are found; scikit-learn's ``KNeighborsRegressor``, which has no approximate search,
    takes 300 ms (``benchmarks/decision.py``).

    Args:
        n_neighbors: number of neighbors.
        algorithm: ``brute`` (brute force), ``ivf`` (index), or ``auto``, which uses the index for
            many training prompts.
        min_compared: minimum number of training prompts that are compared with a query when the
            index is used.
        random_state: seed of the index.

    Attributes:
        embeddings_: unit vectors of the training prompts (n_prompts, width), in the order of the
            index.
        labels_: labels of the training prompts (n_prompts, n_candidates), in the same order.
        centers_, starts_: centers and boundaries of the lists of the index; without an index, one
            list contains all prompts.
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
            InputError: ``n_neighbors`` is below 1 or above the number of training prompts.
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
        """Return the expected quality in the unit of the metric, (n_prompts, n_candidates), of
        embeddings X (n_prompts, width).
        """
        x = self._validate_features(X, (np.float32,))
        predicted = np.empty((len(x), self.labels_.shape[1]))
        for comparison in self._comparisons(x):
            queries, compared = comparison.queries, comparison.compared
            for columns, labelled in zip(self.columns_, self.labelled_, strict=True):
                nearest = _nearest(comparison.similarity, labelled[compared], self.n_neighbors)
                rows = np.sort(compared[nearest], axis=1)  # sums do not depend on the other queries
                labels = self.labels_[rows[:, :, None], columns]
                predicted[queries[:, None], columns] = labels.mean(axis=1)
        return self._restore_shape(predicted)

    def neighbors(self, X: Any) -> Ints:
        """Return the row numbers in ``embeddings_`` of the nearest training prompts of each prompt,
        in no particular order: (n_prompts, n_neighbors). They may have missing labels.
        """
        x = self._validate_features(X, (np.float32,))
        rows = []
        for comparison in self._comparisons(x):
            compared, all_eligible = comparison.compared, np.ones(len(comparison.compared), bool)
            rows.append(compared[_nearest(comparison.similarity, all_eligible, self.n_neighbors)])
        return np.concatenate(rows)

    def multiply_adds(self, X: Any) -> int:
        """Return the number of multiply-adds of ``predict(X)``, which multiplies each prompt with
        the centers of the index and with the training prompts that it is compared with.
        """
        x = np.asarray(X, np.float32)
        n_similarities = sum(comparison.similarity.size for comparison in self._comparisons(x))
        n_center_products = len(x) * len(self.centers_) if len(self.centers_) > 1 else 0
        return int((n_similarities + n_center_products) * self.embeddings_.shape[1])

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
        """Compare all prompts with training prompts, either by brute force or with the index."""
        if len(self.centers_) == 1:
            return self._compare_with_all(x)
        return (self._compare_by_index(i, row) for i, row in enumerate(x))

    def _compare_with_all(self, x: Float32) -> Iterator[_Comparison]:
        all_rows = np.arange(len(self.embeddings_))
        block = max(1, _MAX_SIMILARITIES // len(all_rows))
        for i in range(0, len(x), block):
            queries = np.arange(i, min(i + block, len(x)))
            yield _Comparison(queries, all_rows, x[i : i + block] @ self.embeddings_.T)

    def _compare_by_index(self, i: int, query: Float32) -> _Comparison:
        """Compare the query with row number ``i`` with the lists of its nearest centers. As many
        lists are used as are needed for enough labels of every candidate.
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
        """Group the candidates whose labels are missing for the same prompts.

        Set ``columns_`` to the columns of the candidates in each group, ``labelled_`` to the mask
        (n_groups, n_prompts) of the prompts with labels, and ``list_counts_`` to the number
        (n_groups, n_lists) of these prompts in each list of the index.
        """
        labelled, self.columns_ = zip(*missing_label_patterns(self.labels_), strict=True)
        self.labelled_ = np.stack(labelled)
        n_lists = len(self.centers_)
        list_of_row = np.repeat(np.arange(n_lists), np.diff(self.starts_))
        self.list_counts_ = np.stack(
            [np.bincount(list_of_row, weights=mask, minlength=n_lists) for mask in self.labelled_]
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state; if there is an index, its embeddings are converted to half precision
        without loss, because ``fit`` has rounded them.
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
    """Return for each row the column numbers of the ``k`` largest similarities, (n, k), or of all
    eligible columns if there are fewer than ``k``.

    Args:
        similarity: similarities (n, m).
        eligible: mask of the columns to select from, (m,).
        k: number of columns.
    """
    if not eligible.all():
        similarity, k = np.where(eligible, similarity, -np.inf), min(k, int(eligible.sum()))
    n_columns = similarity.shape[1]
    return np.argpartition(similarity, n_columns - k, axis=1)[:, n_columns - k :]


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return the k-nearest-neighbors estimator (CATImage paper, section 5.1).

    The number of neighbors, which the paper does not state, is selected on the validation split.
    """
    return UnfittedEstimator(
        CosineKNNRegressor(random_state=context.seed),
        {"n_neighbors": [3, 5, 8, 12, 20, 32, 50, 80]},
    )
