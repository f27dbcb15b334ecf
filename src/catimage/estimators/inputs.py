"""What regressors of regressors are given: prompts or token embeddings, which those inside read, or
columns as scikit-learn has them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length, validate_data

from catimage.common.arrays import Floats
from catimage.estimators.ragged_arrays import Ragged


def checked_x(estimator: Any, x: Any, reset: bool) -> Any:
    """Columns (n, width), dense or CSR, checked and counted as scikit-learn's contract has it;
    prompts (n,) and Ragged as they are.

    Args:
        reset: whether ``estimator`` is being fitted.
    """
    if isinstance(x, Ragged):
        return x
    if (isinstance(x, list) or getattr(x, "ndim", 2) == 1) and len(x) and isinstance(x[0], str):
        return np.asarray(x, object)
    return validate_data(estimator, x, accept_sparse="csr", reset=reset)


def checked_y(estimator: Any, x: Any, y: Any) -> Floats:
    """Labels (n, n_candidates) or (n,), NaN where one is missing, as many as there are rows of x.

    Raises:
        ValueError: there are none, their number differs, or one is infinite.
    """
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None"
        )
    labels = check_array(
        y, ensure_2d=False, ensure_all_finite="allow-nan", dtype=np.float64, input_name="y"
    )
    if isinstance(x, Ragged):
        if len(x) != len(labels):
            raise ValueError(f"{len(x)} prompts, but {len(labels)} labels")
    else:
        check_consistent_length(x, labels)
    return np.asarray(labels, np.float64)
