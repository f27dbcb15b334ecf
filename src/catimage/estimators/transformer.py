"""The Transformer estimator of CATImage 5.1: a two-layer MLP with M outputs on each token of a frozen text encoder."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, validate_data

from catimage.estimators.ragged import Ragged, as_ragged

Floats = NDArray[np.float64]


class TokenMLPRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Two-layer MLP a token, mean over the tokens, sigmoid; trained by the sum over heads of sigmoid cross-entropies.

    Labels are scaled to [0, 1] by one minimum and maximum over all candidates (CATImage 5.1; scaling each candidate by
    itself would break equation 3) and stand as probabilities. Predictions come back in the metric's unit, and so lie
    within the labels' range. Training stops when the loss on ``validation_fraction`` of the prompts has not fallen for
    ``patience`` epochs, and keeps the best epoch. The paper gives no optimiser: AdamW here.

    X is :class:`~catimage.estimators.ragged.Ragged`, or a 2-D array, read as one token a prompt.
    """

    def __init__(
        self, hidden: int = 256, rate: float = 2e-3, weight_decay: float = 0.01, dropout: float = 0.1, batch: int = 64,
        epochs: int = 200, patience: int = 15, validation_fraction: float = 0.1, random_state: int = 0,
    ) -> None:  # fmt: skip
        self.hidden = hidden
        self.rate = rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.batch = batch
        self.epochs = epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Several candidates are predicted at once."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Learns from ``y`` of shape (n_prompts, n_candidates), or (n_prompts,)."""
        tokens, y = self._checked(X, y)
        self.low_, self.high_ = float(y.min()), float(y.max())
        target = (y - self.low_) / max(self.high_ - self.low_, 1e-12)
        self.flat_ = y.ndim == 1
        self.mean_ = np.asarray(tokens.values, np.float64).mean(axis=0)
        self.scale_ = np.maximum(np.asarray(tokens.values, np.float64).std(axis=0), 1e-6)
        self.weights_ = self._train(tokens, target.reshape(len(y), -1))
        return self

    def predict(self, X: Any) -> Floats:
        """Expected quality in the metric's unit: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        tokens = X if isinstance(X, Ragged) else as_ragged(validate_data(self, X, reset=False))
        x = (np.asarray(tokens.values, np.float32) - self.mean_.astype(np.float32)) / self.scale_.astype(np.float32)
        w = self.weights_
        per_token = np.maximum(x @ w["first"] + w["first_bias"], 0) @ w["second"] + w["second_bias"]
        share = 1 / (1 + np.exp(-np.asarray(tokens.mean(per_token), np.float64)))
        out = self.low_ + share * (self.high_ - self.low_)
        return out[:, 0] if self.flat_ else out

    def _checked(self, X: Any, y: Any) -> tuple[Ragged, Floats]:
        if isinstance(X, Ragged):
            y = check_array(y, ensure_2d=False, dtype=np.float64)
            self.n_features_in_ = X.values.shape[1]
            return X, y
        X, y = check_X_y(*validate_data(self, X, y, multi_output=True, y_numeric=True), multi_output=True, y_numeric=True)
        return as_ragged(X), np.asarray(y, np.float64)

    def _train(self, tokens: Ragged, target: Floats) -> dict[str, NDArray[np.float32]]:
        """The best epoch's weights."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            rng = np.random.default_rng(self.random_state)
            net = self._network(tokens.values.shape[1], target.shape[1])
            optimiser = torch.optim.AdamW(net.parameters(), lr=self.rate, weight_decay=self.weight_decay)
            order = rng.permutation(len(tokens))
            held = order[: max(1, int(self.validation_fraction * len(order)))] if len(order) > 10 else order
            used = order[len(held) :] if len(order) > 10 else order
            best, best_loss, waited = self._weights(net), np.inf, 0
            for _ in range(self.epochs):
                for rows in np.array_split(rng.permutation(used), max(1, len(used) // self.batch)):
                    optimiser.zero_grad()
                    self._loss(net.train(), tokens.take(rows), target[rows]).backward()
                    optimiser.step()
                with torch.no_grad():
                    loss = float(self._loss(net.eval(), tokens.take(held), target[held]))
                best, best_loss, waited = (self._weights(net), loss, 0) if loss < best_loss else (best, best_loss, waited + 1)
                if waited >= self.patience:
                    break
        self.validation_loss_ = float(best_loss)
        return best

    def _network(self, width: int, heads: int) -> Any:
        from torch import nn

        return nn.Sequential(nn.Linear(width, self.hidden), nn.ReLU(), nn.Dropout(self.dropout), nn.Linear(self.hidden, heads))

    def _loss(self, net: Any, tokens: Ragged, target: Floats) -> Any:
        """Sum over the heads of the sigmoid cross-entropy, mean over the prompts."""
        import torch

        x = torch.from_numpy(((np.asarray(tokens.values, np.float64) - self.mean_) / self.scale_).astype(np.float32))
        owner = torch.from_numpy(np.repeat(np.arange(len(tokens)), tokens.lengths))
        summed = torch.zeros(len(tokens), target.shape[1]).index_add_(0, owner, net(x))
        logits = summed / torch.from_numpy(tokens.lengths.astype(np.float32))[:, None]
        wanted = torch.from_numpy(target.astype(np.float32))
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1).mean()

    @staticmethod
    def _weights(net: Any) -> dict[str, NDArray[np.float32]]:
        first, second = net[0], net[3]
        return {
            "first": first.weight.detach().numpy().T.copy(),
            "first_bias": first.bias.detach().numpy().copy(),
            "second": second.weight.detach().numpy().T.copy(),
            "second_bias": second.bias.detach().numpy().copy(),
        }
