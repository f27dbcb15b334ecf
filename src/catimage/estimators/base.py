"""What the regressors of this package have in common: several candidates at once, and labels that
may be missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_array, check_consistent_length, validate_data

from catimage.common.arrays import Floats
from catimage.errors import InputError


class CandidatesRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor of several candidates at once."""

    _reads_sparse = False

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of it."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.sparse = self._reads_sparse
        return tags


class LabelRegressor(CandidatesRegressor):
    """Learns labels y (n_prompts, n_candidates) or (n_prompts,), NaN where a prompt has no label of
    a candidate.

    What is assumed of the missing ones, here and in every kind: whether a label is missing may
    depend on the prompt, but not on what the label would have been on that prompt ("missing at
    random"). Then the labels that are there of a candidate have the right mean at every prompt, and
    a regression on them aims at the right thing; it is only less sure where few are.
    """

    flat_: bool

    def _checked(self, X: Any, y: Any) -> tuple[Any, Floats]:
        """X (n, width) and y (n, n_candidates)."""
        if issparse(X):
            raise InputError(
                f"{type(self).__name__} reads dense features, and got sparse ones: give it an"
                " embedding, not words."
            )
        X, y = validate_data(
            self, X, y, validate_separately=({"dtype": [np.float64, np.float32]}, LABELS)
        )
        check_consistent_length(X, y)
        return X, self._labels(y)

    def _labels(self, y: Any) -> Floats:
        y = check_labels(y)
        self.flat_ = y.ndim == 1
        labels: Floats = y.reshape(len(y), -1)
        return labels

    def _shaped(self, predicted: Floats) -> Floats:
        """Predictions (n, n_candidates) in the shape that labels came in."""
        return predicted[:, 0] if self.flat_ else predicted


LABELS = {"ensure_2d": False, "ensure_all_finite": "allow-nan", "dtype": np.float64}


def check_labels(y: Any) -> Floats:
    """Labels as floats.

    Raises:
        InputError: a candidate has no label at all.
    """
    labels: Floats = check_array(y, input_name="y", **LABELS)
    empty = np.flatnonzero(np.isnan(labels.reshape(len(labels), -1)).all(axis=0))
    if len(empty):
        raise InputError(
            f"candidate {empty[0] + 1} (by cost) has no label among {len(labels)} training prompts:"
            " score it, or leave it out."
        )
    return labels
