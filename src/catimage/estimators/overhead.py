"""What a decision itself costs (CATImage 5.1: "a negligible inference cost"), counted as the candidates' costs are."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline

from catimage.estimators.ragged import Ragged
from catimage.estimators.transformer import TokenMLPRegressor


def decision_tflops(estimator: Pipeline, prompt: str) -> dict[str, float]:
    """TFLOPs (a multiply-add is two) of one decision: the text encoder's, counted by torch, and the regressor's.

    Args:
        estimator: fitted; ``prompt`` is one of typical length. TF-IDF has no text encoder, and its lookups count as nothing.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        x = estimator.named_steps["features"].transform(np.array([prompt], object))
    return {"text_encoder": counter.get_total_flops() / 1e12, "estimator": 2 * _multiply_adds(estimator.named_steps["regressor"], x) / 1e12}


def _multiply_adds(regressor: Any, x: Any) -> int:
    """Multiply-adds of the regressor's dense products; sums and activations are left out."""
    if isinstance(regressor, TokenMLPRegressor):
        tokens = len(x.values) if isinstance(x, Ragged) else len(x)
        return tokens * int(regressor.weights_["first"].size + regressor.weights_["second"].size)
    if isinstance(regressor, KNeighborsRegressor):
        return int(regressor.n_samples_fit_ * regressor.n_features_in_)
    outputs = np.atleast_2d(regressor.coef_).shape[0]
    return int(outputs * x.nnz)
