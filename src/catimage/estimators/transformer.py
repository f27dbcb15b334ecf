"""The Transformer-based estimator (CATImage paper, section 5.1): a two-layer MLP with one output
per candidate, applied to each token embedding of a frozen text encoder.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from catimage.common.arrays import Float32, Floats
from catimage.estimators.base import LabelRegressor
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.ragged_arrays import RaggedArray, as_ragged_array
from catimage.estimators.training import (
    CROSS_ENTROPY,
    TrainingLoopSettings,
    label_loss,
    scale_labels,
    train,
)
from catimage.params import EstimatorParams

Weights = dict[str, Float32]
"""Arrays of weights and biases by name (see the attribute ``weights_``)."""


class TokenMLPRegressor(LabelRegressor):
    """Two-layer MLP on each token, followed by the mean over the tokens and a sigmoid (CATImage
    paper, section 5.1).

    The loss is the sigmoid cross-entropy summed over the candidates; missing labels (NaN) do not
    contribute. Labels are scaled to [0, 1] by one minimum and one maximum over all candidates, and
    predictions are scaled back to the unit of the metric. The paper does not name an optimizer:
    this class uses AdamW with early stopping and keeps the weights of the epoch with the lowest
    validation loss.

    X is a :class:`~catimage.estimators.ragged_arrays.RaggedArray` of token embeddings, or a 2-D
    array with one token embedding per prompt.

    Args:
        hidden_layer_sizes: number of units of the only hidden layer, an integer.
        learning_rate: learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        dropout: dropout probability of the hidden units.
        batch_size: number of prompts per update.
        max_iter: maximum number of epochs.
        n_iter_no_change: number of epochs without a lower validation loss before training stops.
        validation_fraction: fraction of the prompts held out to compute the validation loss.
        random_state: seed of the weights, the batches and the validation prompts.

    Attributes:
        weights_: arrays ``first`` (width, hidden units), ``first_bias``, ``second`` (hidden units,
            n_candidates) and ``second_bias``.
        mean_, scale_: mean and standard deviation of each input feature over all tokens, (width,).
        low_, high_: minimum and maximum of the training labels.
        n_iter_: number of epochs run.
        validation_loss_: validation loss of ``weights_``.
    """

    loss: str = CROSS_ENTROPY

    def __init__(
        self,
        hidden_layer_sizes: int = 256,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        dropout: float = 0.1,
        batch_size: int = 64,
        max_iter: int = 200,
        n_iter_no_change: int = 15,
        validation_fraction: float = 0.1,
        random_state: int = 0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.n_iter_no_change = n_iter_no_change
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train on X and on labels y (n_prompts, n_candidates) or (n_prompts,), NaN if missing."""
        tokens, y = self._validate(X, y)
        target, self.low_, self.high_ = scale_labels(y)
        values = np.asarray(tokens.values, np.float64)
        self.mean_ = values.mean(axis=0)
        self.scale_ = np.maximum(values.std(axis=0), 1e-6)
        self.weights_ = self._train(tokens, target, self.random_state)
        return self

    def predict(self, X: Any) -> Floats:
        """Return the expected quality in the unit of the metric: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        X = X if isinstance(X, RaggedArray) else validate_data(self, X, reset=False)
        tokens = as_ragged_array(X)
        mean, scale = self.mean_.astype(np.float32), self.scale_.astype(np.float32)
        x = (np.asarray(tokens.values, np.float32) - mean) / scale
        w = self.weights_
        activations = np.maximum(x @ w["first"] + w["first_bias"], 0)
        logits = tokens.mean(activations @ w["second"] + w["second_bias"])
        probability = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
        return self._restore_shape(self.low_ + probability * (self.high_ - self.low_))

    def multiply_adds(self, X: Any) -> int:
        """Return the number of multiply-adds of both layers for all tokens of X."""
        n_tokens = len(as_ragged_array(X).values)
        return n_tokens * int(self.weights_["first"].size + self.weights_["second"].size)

    def _validate(self, X: Any, y: Any) -> tuple[RaggedArray, Floats]:
        """Validate and return X as a ragged array, and y (n_prompts, n_candidates)."""
        if isinstance(X, RaggedArray):
            self.n_features_in_ = X.values.shape[1]
            return X, self._validate_labels(y)
        X, y = self._validate_training_data(X, y)
        return as_ragged_array(X), y

    def _train(self, tokens: RaggedArray, target: Floats, seed: int) -> Weights:
        """Return the weights of the epoch with the lowest validation loss."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = self._network(tokens.values.shape[1], target.shape[1])
            optimizer = torch.optim.AdamW(
                net.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
            )
            result = train(
                net,
                optimizer,
                lambda rows: self._loss(net, tokens.take(rows), target[rows]),
                len(tokens),
                TrainingLoopSettings(
                    self.batch_size, self.max_iter, self.n_iter_no_change, self.validation_fraction
                ),
                np.random.default_rng(seed),
            )
        self.n_iter_, self.validation_loss_ = result.n_iter, result.validation_loss
        return self._weights(net)

    def _network(self, width: int, n_candidates: int) -> Any:
        from torch import nn

        return nn.Sequential(
            nn.Linear(width, self.hidden_layer_sizes),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(self.hidden_layer_sizes, n_candidates),
        )

    def _loss(self, net: Any, tokens: RaggedArray, target: Floats) -> Any:
        """Return the loss (:func:`~catimage.estimators.training.label_loss`) of the outputs of
        ``net``, averaged over the tokens of each prompt.
        """
        import torch

        values = (np.asarray(tokens.values, np.float64) - self.mean_) / self.scale_
        x = torch.from_numpy(values.astype(np.float32))
        prompt_of_token = torch.from_numpy(np.repeat(np.arange(len(tokens)), tokens.lengths))
        sums = torch.zeros(len(tokens), target.shape[1]).index_add_(0, prompt_of_token, net(x))
        lengths = torch.from_numpy(tokens.lengths.astype(np.float32))
        return label_loss(sums / lengths[:, None], target, self.loss)

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
    """Return the Transformer-based estimator (CATImage paper, section 5.1)."""
    return UnfittedEstimator(TokenMLPRegressor(random_state=context.seed), features=("tokens",))
