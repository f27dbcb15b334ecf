"""An MLP on the embedding of the whole prompt."""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.ragged_arrays import Ragged
from catimage.estimators.training import CROSS_ENTROPY, SQUARED
from catimage.estimators.transformer import TokenMLPRegressor, Weights
from catimage.params import EstimatorParams


class MLPRegressor(TokenMLPRegressor):
    """CATImage 5.1's head and loss, on one vector a prompt; dropout on that vector too, and the
    mean of several networks.

    A single network of a few thousand prompts errs by its seed about as much as it learns of the
    differences between candidates: the logits of ``networks`` of them are averaged, which comes to
    one wider network, so that a decision is two products all the same.

    Args:
        loss: ``cross_entropy`` or ``squared``, of the sigmoid against labels scaled to [0, 1].
        dropout: of hidden units; ``input_dropout``: of the features, standardised.
        networks: each of its own seed, and with held-out prompts of its own.
    """

    def __init__(
        self,
        hidden: int = 128,
        rate: float = 1e-3,
        weight_decay: float = 0.05,
        dropout: float = 0.5,
        input_dropout: float = 0.3,
        loss: str = CROSS_ENTROPY,
        networks: int = 4,
        batch: int = 128,
        epochs: int = 100,
        patience: int = 8,
        validation_fraction: float = 0.1,
        random_state: int = 0,
    ) -> None:
        super().__init__(
            hidden,
            rate,
            weight_decay,
            dropout,
            batch,
            epochs,
            patience,
            validation_fraction,
            random_state,
        )
        self.input_dropout = input_dropout
        self.loss = loss
        self.networks = networks

    @property
    def _loss_kind(self) -> str:  # type: ignore[override]
        if self.loss not in (CROSS_ENTROPY, SQUARED):
            raise ValueError(f"loss must be {CROSS_ENTROPY} or {SQUARED}, not {self.loss!r}")
        return self.loss

    def _network(self, width: int, heads: int) -> Any:
        from torch import nn

        return nn.Sequential(nn.Dropout(self.input_dropout), *super()._network(width, heads))

    def _train(self, tokens: Ragged, target: Floats, seed: int) -> Weights:
        """The networks side by side, as one."""
        seeds = np.random.SeedSequence(seed).generate_state(self.networks)
        each = [super(MLPRegressor, self)._train(tokens, target, int(s)) for s in seeds]
        return {
            "first": np.concatenate([w["first"] for w in each], axis=1),
            "first_bias": np.concatenate([w["first_bias"] for w in each]),
            "second": np.concatenate([w["second"] for w in each]) / np.float32(len(each)),
            "second_bias": np.mean([w["second_bias"] for w in each], axis=0),
        }


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """An MLP on the prompt's embedding; validation chooses the loss."""
    return UnfittedEstimator(
        MLPRegressor(random_state=context.seed), {"loss": [CROSS_ENTROPY, SQUARED]}
    )
