"""Base classes of the regressors, which predict the labels of all candidates and accept missing
labels. A label is the quality of a candidate for a prompt, measured by a metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix, issparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from catimage.common.arrays import Floats
from catimage.errors import InputError
from catimage.estimators.ragged_arrays import RaggedArray

_LABELS = {"ensure_2d": False, "ensure_all_finite": "allow-nan", "dtype": np.float64}


class LabelRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of regressors of labels y: (n_prompts, n_candidates) or (n_prompts,), NaN where
    missing.

    All regressors assume that labels are missing at random: whether a label is missing may depend
    on the prompt, but not on the value that the label would have had. The labels of a candidate
    that are present then have the correct mean given the prompt, and a regression on them is
    unbiased; fewer labels only increase its variance.

    Attributes:
        flat_: whether the training labels were 1-D, in which case predictions are 1-D too.
    """

    _accepts_sparse = False
    flat_: bool

    def __sklearn_tags__(self) -> Any:
        """Return the tags of scikit-learn's estimator contract."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.sparse = self._accepts_sparse
        return tags

    def _validate_training_data(self, X: Any, y: Any) -> tuple[Any, Floats]:
        """Validate and return X (n_prompts, width), dense or CSR, and y (n_prompts, n_candidates).

        Raises:
            InputError: X is sparse and the regressor needs dense features, or a candidate has no
                label.
            ValueError: the shapes are inconsistent, or a value of X is not finite.
        """
        if issparse(X) and not self._accepts_sparse:
            raise InputError(
                f"train.estimators: {type(self).__name__} needs dense features, but its features"
                " are sparse. Use an embedding instead of TF-IDF."
            )
        features = {
            "dtype": [np.float64, np.float32],
            "accept_sparse": "csr" if self._accepts_sparse else False,
        }
        X, y = validate_data(self, X, y, validate_separately=(features, _LABELS))
        check_consistent_length(X, y)
        return X, self._validate_labels(y)

    def _validate_features(self, X: Any, dtypes: Sequence[type]) -> Any:
        """Validate and return features X (n_prompts, width) of ``predict``, dense or CSR.

        Features that need no conversion, such as those of a pipeline, are checked here, because
        scikit-learn's ``check_is_fitted`` and ``validate_data`` take 0.4 ms.

        Args:
            X: the features.
            dtypes: the accepted types; others are converted to the first one.

        Raises:
            NotFittedError: the regressor is not fitted.
            ValueError: the shape is inconsistent, or a value is not finite.
        """
        if _is_valid(X, getattr(self, "n_features_in_", None), dtypes, self._accepts_sparse) and (
            not hasattr(self, "feature_names_in_")
        ):
            return X
        check_is_fitted(self)
        sparse = "csr" if self._accepts_sparse else False
        return validate_data(self, X, reset=False, accept_sparse=sparse, dtype=list(dtypes))

    def _validate_labels(self, y: Any) -> Floats:
        """Return labels as (n_prompts, n_candidates), and set ``flat_``."""
        y = validate_labels(y)
        self.flat_ = y.ndim == 1
        labels: Floats = y.reshape(len(y), -1)
        return labels

    def _restore_shape(self, predicted: Floats) -> Floats:
        """Return predictions (n_prompts, n_candidates) in the shape of the training labels."""
        return predicted[:, 0] if self.flat_ else predicted


def _is_valid(X: Any, width: int | None, dtypes: Sequence[type], sparse: bool) -> bool:
    """Return whether features need no conversion: the right shape and type, and finite values."""
    if type(X) is np.ndarray:
        values = X
    elif sparse and type(X) in (csr_array, csr_matrix):
        values = X.data
    else:
        return False
    return (
        X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == width
        and values.dtype.type in dtypes
        and bool(np.isfinite(values).all())
    )


def validate_labels(y: Any) -> Floats:
    """Return labels as an array of floats, (n_prompts, n_candidates) or (n_prompts,).

    Raises:
        InputError: a candidate has no label.
        ValueError: a label is infinite.
    """
    labels: Floats = check_array(y, input_name="y", **_LABELS)
    unlabelled = np.flatnonzero(np.isnan(labels.reshape(len(labels), -1)).all(axis=0))
    if len(unlabelled):
        raise InputError(
            f"y: candidate {unlabelled[0] + 1} (in order of cost) has no label for any of"
            f" {len(labels)} training prompts. Score its images, or remove the candidate."
        )
    return labels


def missing_label_patterns(
    labels: Floats,
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """Group the candidates whose labels are missing for the same prompts.

    Args:
        labels: (n_prompts, n_candidates), NaN where missing.

    Yields:
        For each group, the mask (n_prompts,) of the prompts that have labels, and the column
        indices of the candidates.
    """
    patterns, group = np.unique(~np.isnan(labels), axis=1, return_inverse=True)
    for number, present in enumerate(patterns.T):
        yield present, np.flatnonzero(np.ravel(group) == number)


class WrapperRegressor(LabelRegressor):
    """Base class of regressors that fit other regressors to the same input X, unchanged.

    X consists of prompts (n_prompts,), token embeddings (:class:`RaggedArray`), or a matrix
    (n_prompts, width), dense or CSR.
    """

    _accepts_sparse = True

    def _validate_x(self, X: Any, reset: bool) -> Any:
        """Return X; a matrix is validated as scikit-learn's estimator contract requires.

        Args:
            reset: whether to store the number of columns, as in ``fit``, instead of checking it.
        """
        if isinstance(X, RaggedArray):
            return X
        if (isinstance(X, list) or getattr(X, "ndim", 2) == 1) and len(X) and isinstance(X[0], str):
            return np.asarray(X, object)
        return validate_data(self, X, accept_sparse="csr", reset=reset)

    def _validate_training_data(self, X: Any, y: Any) -> tuple[Any, Floats]:
        """Validate and return X, and y in its original shape: (n_prompts, n_candidates) or
        (n_prompts,).
        """
        X = self._validate_x(X, reset=True)
        if y is None:
            name = type(self).__name__
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        labels = validate_labels(y)
        if isinstance(X, RaggedArray):
            if len(X) != len(labels):
                raise ValueError(f"X has {len(X)} prompts, but y has {len(labels)} rows")
        else:
            check_consistent_length(X, labels)
        self.flat_ = labels.ndim == 1
        return X, labels
