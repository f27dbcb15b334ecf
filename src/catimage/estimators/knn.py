"""The K-nearest-neighbours estimator of CATImage 5.1, fast for one prompt at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsRegressor
from sklearn.utils.validation import check_is_fitted

_ROWS = 1024
"""Prompts compared at once, so that memory does not grow with their number."""


class CosineKNNRegressor(KNeighborsRegressor):  # type: ignore[misc]
    """scikit-learn's, for embeddings of unit length: the mean label of the ``n_neighbors`` with the largest dot product.

    Its fit is scikit-learn's; its prediction is one product, since for a single prompt scikit-learn's threads cost a text
    encoder's threads several milliseconds (``make bench``).
    """

    def predict(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """Labels (n, n_candidates) of unit embeddings X (n, width)."""
        check_is_fitted(self)
        known, labels, k = self._fit_X, self._y, self.n_neighbors
        parts = []
        for first in range(0, len(X), _ROWS):
            near = np.argpartition(X[first : first + _ROWS] @ known.T, len(known) - k, axis=1)[:, len(known) - k :]
            parts.append(labels[near].mean(axis=1))
        return np.concatenate(parts)
