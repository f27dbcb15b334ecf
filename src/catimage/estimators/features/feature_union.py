"""Features side by side, and the features of a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array, hstack, issparse
from sklearn.base import BaseEstimator, TransformerMixin, clone


class JoinedFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The columns of several feature steps, each step's times its weight: sparse (CSR) where one of
    them is, otherwise dense.

    TF-IDF and embeddings have rows of unit length each, so that with equal weights a product of two
    prompts is the sum of what either says of their likeness, and neither drowns the other whatever
    its number of columns. (scikit-learn's FeatureUnion does the same, by joblib, which costs a
    single decision half a millisecond.)
    """

    def __init__(self, steps: Sequence[Any] = (), weights: Sequence[float] = ()) -> None:
        self.steps = steps
        self.weights = weights

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Fits each step."""
        self.steps_ = [clone(step).fit(prompts, y) for step in self.steps]
        return self

    def transform(self, prompts: Sequence[str]) -> Any:
        """Features (n_prompts, sum of widths)."""
        blocks = [
            step.transform(prompts) * weight
            for step, weight in zip(self.steps_, self.weights, strict=True)
        ]
        if not any(map(issparse, blocks)):
            return np.concatenate(blocks, axis=1)
        return _one_row(blocks) if len(prompts) == 1 else hstack(blocks, "csr")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The steps too, by their number, so that ``0__model`` is the model of the first."""
        own: dict[str, Any] = super().get_params(deep=False)
        inner = (
            {
                f"{i}__{key}": value
                for i, step in enumerate(self.steps)
                for key, value in step.get_params().items()
            }
            if deep
            else {}
        )
        return own | inner

    def set_params(self, **params: Any) -> Self:
        """Sets own parameters, and those of a step by its number."""
        for key, value in params.items():
            number, _, name = key.partition("__")
            if number.isdigit() and name:
                self.steps[int(number)].set_params(**{name: value})
            else:
                super().set_params(**{key: value})
        return self


def _one_row(blocks: Sequence[Any]) -> Any:
    """Blocks of one row each, side by side (CSR); ``hstack`` takes half a millisecond over it,
    which is long for one decision.
    """
    values, columns, start = [], [], 0
    for block in blocks:
        thin = hasattr(block, "indices")
        values.append(block.data if thin else block[0])
        columns.append(start + (block.indices if thin else np.arange(block.shape[1])))
        start += block.shape[1]
    data, indices = np.concatenate(values), np.concatenate(columns)
    return csr_array((data, indices, np.array([0, len(data)])), shape=(1, start))


class KernelMap(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The features of a sum of Gaussian kernels, one a view of a prompt: products are nearly the
    sum of ``exp(-gamma * distance^2)``.

    A linear model on them is a kernel machine, which knows what is near and not only what is along
    a line, at a cost that does not grow with the training prompts: Nystrom's approximation on
    ``landmarks`` of these, drawn at random, along the ``rank`` directions in which they differ
    most. A row's squared length is the number of views, or a little less.

    Args:
        views: steps from prompts to rows of unit length.
        gammas: of each view; what two unlike prompts have in common is ``exp(-2 gamma)``.
    """

    def __init__(
        self,
        views: Sequence[Any] = (),
        gammas: Sequence[float] = (2.0, 1.0),
        landmarks: int = 2000,
        rank: int = 1000,
        random_state: int = 0,
    ) -> None:
        self.views = views
        self.gammas = gammas
        self.landmarks = landmarks
        self.rank = rank
        self.random_state = random_state

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Fits the views and draws the landmarks."""
        self.views_ = [clone(view).fit(prompts, y) for view in self.views]
        rows = np.sort(
            np.random.default_rng(self.random_state).permutation(len(prompts))[: self.landmarks]
        )
        self.near_ = [seen[rows] for seen in self._seen(prompts)]
        values, vectors = eigh(
            self._kernel(self.near_), subset_by_index=[max(0, len(rows) - self.rank), len(rows) - 1]
        )
        kept = values > 1e-5 * values[-1]  # what is less is rounding
        self.map_ = np.ascontiguousarray(vectors[:, kept] / np.sqrt(values[kept]), np.float32)
        return self

    def transform(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Features (n_prompts, rank or fewer)."""
        mapped: NDArray[np.float32] = self._kernel(self._seen(prompts)) @ self.map_
        return mapped

    def multiply_adds(self, X: Any) -> int:
        """Of the features of prompts X (n,), without the text encoder's."""
        own = len(X) * int(sum(near.size for near in self.near_) + self.map_.size)
        return own + sum(
            int(view.multiply_adds(X)) for view in self.views_ if hasattr(view, "multiply_adds")
        )

    def _seen(self, prompts: Sequence[str]) -> list[NDArray[np.float32]]:
        return [np.asarray(view.transform(prompts), np.float32) for view in self.views_]

    def _kernel(self, seen: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(n, landmarks), of rows (n, width) of each view; the squared distance of unit vectors is
        two less twice their product.
        """
        alike = zip(seen, self.near_, self.gammas, strict=True)
        return np.asarray(
            sum(np.exp(np.float32(2 * gamma) * (x @ near.T - 1)) for x, near, gamma in alike),
            np.float32,
        )
