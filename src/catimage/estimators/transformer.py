"""The Transformer estimator of CATImage 5.1: a two-layer MLP with M outputs on each token of a
frozen text encoder.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from catimage.common.arrays import Floats
from catimage.estimators.base import LabelRegressor
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.ragged_arrays import Ragged, as_ragged
from catimage.estimators.training import CROSS_ENTROPY, Schedule, label_loss, scaled, train
from catimage.params import EstimatorParams

Weights = dict[str, NDArray[np.float32]]


class TokenMLPRegressor(LabelRegressor):
    """Two-layer MLP a token, mean over the tokens, sigmoid; trained by the sum over heads of
    sigmoid cross-entropies.

    Labels are scaled to [0, 1] by one minimum and maximum over all candidates (CATImage 5.1;
    scaling each candidate by itself would break equation 3) and stand as probabilities. Predictions
    come back in the metric's unit, and so lie within the labels' range. Training stops when the
    loss on ``validation_fraction`` of the prompts has not fallen for ``patience`` epochs, and keeps
    the best epoch. The paper gives no optimiser: AdamW here. A label that is missing (NaN) adds
    nothing to the loss.

    X is :class:`~catimage.estimators.ragged_arrays.Ragged`, or a 2-D array, read as one token a
    prompt.
    """

    _loss_kind = CROSS_ENTROPY

    def __init__(
        self,
        hidden: int = 256,
        rate: float = 2e-3,
        weight_decay: float = 0.01,
        dropout: float = 0.1,
        batch: int = 64,
        epochs: int = 200,
        patience: int = 15,
        validation_fraction: float = 0.1,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.rate = rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.batch = batch
        self.epochs = epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learns from ``y`` of shape (n_prompts, n_candidates), or (n_prompts,)."""
        tokens, y = self._tokens(X, y)
        target, self.low_, self.high_ = scaled(y)
        values = np.asarray(tokens.values, np.float64)
        self.mean_ = values.mean(axis=0)
        self.scale_ = np.maximum(values.std(axis=0), 1e-6)
        self.weights_ = self._train(tokens, target, self.random_state)
        return self

    def predict(self, X: Any) -> Floats:
        """Expected quality in the metric's unit: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        tokens = X if isinstance(X, Ragged) else as_ragged(validate_data(self, X, reset=False))
        x = (
            np.asarray(tokens.values, np.float32) - self.mean_.astype(np.float32)
        ) / self.scale_.astype(np.float32)
        w = self.weights_
        per_token = np.maximum(x @ w["first"] + w["first_bias"], 0) @ w["second"] + w["second_bias"]
        share = 1 / (1 + np.exp(-np.asarray(tokens.mean(per_token), np.float64)))
        return self._shaped(self.low_ + share * (self.high_ - self.low_))

    def multiply_adds(self, X: Any) -> int:
        """Of the predictions for ``X``: every token passes both layers."""
        tokens = as_ragged(X)
        return len(tokens.values) * int(self.weights_["first"].size + self.weights_["second"].size)

    def _tokens(self, X: Any, y: Any) -> tuple[Ragged, Floats]:
        if isinstance(X, Ragged):
            self.n_features_in_ = X.values.shape[1]
            return X, self._labels(y)
        X, y = self._checked(X, y)
        return as_ragged(X), y

    def _train(self, tokens: Ragged, target: Floats, seed: int) -> Weights:
        """The best epoch's weights."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rng = np.random.default_rng(seed)
            net = self._network(tokens.values.shape[1], target.shape[1])
            optimiser = torch.optim.AdamW(
                net.parameters(), lr=self.rate, weight_decay=self.weight_decay
            )
            schedule = Schedule(self.batch, self.epochs, self.patience, self.validation_fraction)
            self.validation_loss_ = train(
                net,
                optimiser,
                lambda rows: self._loss(net, tokens.take(rows), target[rows]),
                len(tokens),
                schedule,
                rng,
            )
        return self._weights(net)

    def _network(self, width: int, heads: int) -> Any:
        from torch import nn

        return nn.Sequential(
            nn.Linear(width, self.hidden),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.hidden, heads),
        )

    def _loss(self, net: Any, tokens: Ragged, target: Floats) -> Any:
        """:func:`label_loss` of the mean over a prompt's tokens of what the network makes of them."""
        import torch

        x = torch.from_numpy(
            ((np.asarray(tokens.values, np.float64) - self.mean_) / self.scale_).astype(np.float32)
        )
        owner = torch.from_numpy(np.repeat(np.arange(len(tokens)), tokens.lengths))
        summed = torch.zeros(len(tokens), target.shape[1]).index_add_(0, owner, net(x))
        logits = summed / torch.from_numpy(tokens.lengths.astype(np.float32))[:, None]
        return label_loss(logits, target, self._loss_kind)

    @staticmethod
    def _weights(net: Any) -> Weights:
        first, second = [layer for layer in net if hasattr(layer, "weight")]
        return {
            "first": first.weight.detach().numpy().T.copy(),
            "first_bias": first.bias.detach().numpy().copy(),
            "second": second.weight.detach().numpy().T.copy(),
            "second_bias": second.bias.detach().numpy().copy(),
        }


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """CATImage 5.1's Transformer-based estimator."""
    return UnfittedEstimator(TokenMLPRegressor(random_state=context.seed), features=("tokens",))
