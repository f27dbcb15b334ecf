"""A multi-layer perceptron on the embedding of the whole prompt."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from catimage.common.arrays import Floats
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.ragged_arrays import RaggedArray
from catimage.estimators.training import CROSS_ENTROPY, SQUARED_ERROR
from catimage.estimators.transformer import TokenMLPRegressor, Weights
from catimage.params import EstimatorParams


class MLPRegressor(TokenMLPRegressor):
    """Average of several two-layer MLPs as in the CATImage paper (section 5.1), but with one vector
    per prompt as input instead of one vector per token.

    The predictions of a network that is trained on a few thousand prompts differ between seeds
    about as much as between candidates. Therefore the logits of ``n_estimators`` networks are
    averaged. The average is stored as one wider network, so that a prediction needs only two matrix
    products.

    The other arguments and attributes are those of
    :class:`~catimage.estimators.transformer.TokenMLPRegressor`; ``n_iter_`` is the largest number
    of epochs of a network.

    Args:
        input_dropout: dropout probability of the standardised input features.
        loss: ``cross_entropy`` or ``squared_error``, computed between the sigmoid of the logits and
            the labels scaled to [0, 1].
        n_estimators: number of networks; each has its own seed and its own validation prompts.
    """

    def __init__(
        self,
        hidden_layer_sizes: int = 128,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        dropout: float = 0.5,
        input_dropout: float = 0.3,
        loss: str = CROSS_ENTROPY,
        n_estimators: int = 4,
        batch_size: int = 128,
        max_iter: int = 100,
        n_iter_no_change: int = 8,
        validation_fraction: float = 0.1,
        random_state: int = 0,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            dropout=dropout,
            batch_size=batch_size,
            max_iter=max_iter,
            n_iter_no_change=n_iter_no_change,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.input_dropout = input_dropout
        self.loss = loss
        self.n_estimators = n_estimators

    def fit(self, X: Any, y: Any) -> Self:
        """Train on X and on labels y (n_prompts, n_candidates) or (n_prompts,), NaN if missing.

        Raises:
            ValueError: ``loss`` is unknown.
        """
        if self.loss not in (CROSS_ENTROPY, SQUARED_ERROR):
            raise ValueError(
                f"loss: unknown value {self.loss!r}. Use {CROSS_ENTROPY!r} or {SQUARED_ERROR!r}."
            )
        return super().fit(X, y)

    def _network(self, width: int, n_candidates: int) -> Any:
        from torch import nn

        return nn.Sequential(nn.Dropout(self.input_dropout), *super()._network(width, n_candidates))

    def _train(self, tokens: RaggedArray, target: Floats, seed: int) -> Weights:
        """Return the weights of one network that computes the mean of the networks' logits."""
        seeds = np.random.SeedSequence(seed).generate_state(self.n_estimators)
        networks, n_iter = [], []
        for network_seed in seeds:
            networks.append(super()._train(tokens, target, int(network_seed)))
            n_iter.append(self.n_iter_)
        self.n_iter_ = max(n_iter)
        return {
            "first": np.concatenate([w["first"] for w in networks], axis=1),
            "first_bias": np.concatenate([w["first_bias"] for w in networks]),
            "second": np.concatenate([w["second"] for w in networks]) / np.float32(len(networks)),
            "second_bias": np.mean([w["second_bias"] for w in networks], axis=0),
        }


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return an MLP on embeddings of prompts, whose loss is selected on the validation split."""
    return UnfittedEstimator(
        MLPRegressor(random_state=context.seed), {"loss": [CROSS_ENTROPY, SQUARED_ERROR]}
    )
