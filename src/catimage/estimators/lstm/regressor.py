"""Bidirectional LSTM over denoising steps, an estimator (BudgetFusion paper, section 3.3)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from catimage.common.arrays import Float32, Floats
from catimage.errors import InputError
from catimage.estimators.base import LabelRegressor
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.lstm.network import (
    LEARNED,
    LSTM,
    MLP_TANH,
    NO_ENCODING,
    SINUSOIDAL,
    Architecture,
    Weights,
    forward,
)
from catimage.estimators.lstm.series import Series, interpolate_labels, split_into_series
from catimage.estimators.training import scale_labels
from catimage.params import EstimatorParams

_PREDICTION_BATCH = 64


class LSTMRegressor(LabelRegressor):
    """Two-layer bidirectional LSTM over the denoising steps, followed by an MLP and a sigmoid
    (BudgetFusion paper, equation 6 and figure 4).

    The candidates of each step group form a series (:mod:`~catimage.estimators.lstm.series`); if
    there are several series, a learned vector per series is added to the input.

    Section 3.3 of the paper specifies: the input is the sum of prompt embedding and step encoding;
    512 LSTM units per direction; an MLP with layers of 1024, 128 and 1 units; dropout on the output
    of the LSTM; squared error; batches of 32 prompts; learning rate 1e-4; 25 epochs (50 for
    the metric I-CLIP); labels interpolated linearly between the sampled steps, with the same weight
    in the loss. Labels are scaled to [0, 1] by one minimum and one maximum. Missing labels (NaN) do
    not contribute to the loss.

    The paper does not specify the following choices, or is ambiguous:

    - The LSTM runs over every number of steps from the smallest to the largest of a series, in
      training and in prediction, because the state of a bidirectional LSTM depends on both ends.
      With ``interpolate=False``, it runs only over the sampled steps.
    - The step encoding, which is "position-embedded as in" BERT, is a learned vector per number of
      steps. ``step_encoding="sinusoidal"`` is the encoding of the Transformer; ``"none"`` and
      ``network="mlp_tanh"``, which replaces the LSTM by layers with tanh activations for each
      number of steps separately, are ablations in table 1 of the paper.
    - The prompt embeddings are standardised, because CLIP embeddings are close to each other.
    - The optimizer is Adam, the dropout probability is 0.1, and the MLP has ReLU activations.

    Args:
        steps: number of denoising steps of each candidate; if None, 1, 2, 3, ...
        step_groups: group of each candidate; if None, all candidates are in one group.
        hidden_size: LSTM units per direction.
        num_layers: number of LSTM layers.
        head_size: units of the hidden layer of the MLP.
        network: ``lstm`` or ``mlp_tanh``.
        step_encoding: ``learned``, ``sinusoidal`` or ``none``.
        interpolate: whether to interpolate labels and to predict all steps of a series.
        dropout: dropout probability of the output of the LSTM.
        learning_rate: learning rate of Adam.
        batch_size: number of prompts per update.
        max_iter: number of epochs; there is no early stopping.
        device: torch device of the training, or ``auto``; predictions are computed by NumPy.
        random_state: seed of the initial weights, the batches and dropout.

    Attributes:
        series_: arrays ``columns``, ``steps`` and ``predicted_steps`` of each
            :class:`~catimage.estimators.lstm.series.Series`.
        n_iter_: number of epochs run.
        weights_: arrays by torch's parameter names.
        mean_, scale_: mean and standard deviation of the embeddings (width,).
        low_, high_: minimum and maximum of the training labels.
    """

    def __init__(
        self,
        steps: Any = None,
        step_groups: Any = None,
        hidden_size: int = 512,
        num_layers: int = 2,
        head_size: int = 128,
        network: str = LSTM,
        step_encoding: str = LEARNED,
        interpolate: bool = True,
        dropout: float = 0.1,
        learning_rate: float = 1e-4,
        batch_size: int = 32,
        max_iter: int = 25,
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.steps = steps
        self.step_groups = step_groups
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.head_size = head_size
        self.network = network
        self.step_encoding = step_encoding
        self.interpolate = interpolate
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train on embeddings X (n_prompts, width) and labels y (n_prompts, n_candidates) or
        (n_prompts,), NaN if missing.

        Raises:
            ValueError: ``steps`` or ``step_groups`` does not have one value per candidate, a number
                of steps is below 1, all labels are missing, or ``network`` or ``step_encoding`` is
                unknown.
        """
        self._check_settings()
        X, y = self._validate_training_data(X, y)
        self.flat_ = y.ndim == 1
        labels, self.low_, self.high_ = scale_labels(y.reshape(len(y), -1))
        self.mean_, self.scale_ = X.mean(axis=0), np.maximum(X.std(axis=0), 1e-6)
        series = self._split(labels.shape[1])
        self.series_ = [[s.columns, s.steps, s.predicted_steps] for s in series]
        targets = [interpolate_labels(labels[:, s.columns], s) for s in series]
        self.weights_, self.n_iter_ = self._train(self._standardise(X), targets), self.max_iter
        return self

    def predict(self, X: Any) -> Floats:
        """Return the expected quality in the unit of the metric: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        series = self._fitted_series()
        predicted = np.empty((len(X), sum(len(s.columns) for s in series)))
        for i, s in enumerate(series):
            predicted[:, s.columns] = self._predict_series(X, i)[:, s.positions]
        return self._restore_shape(predicted)

    def multiply_adds(self, X: Any) -> int:
        """Return the number of multiply-adds of ``predict(X)``: the matrix products of the LSTM and
        the MLP at every predicted step.
        """
        check_is_fitted(self)
        per_step = sum(
            weight.size
            for name, weight in self.weights_.items()
            if weight.ndim == 2 and not name.startswith(("steps", "series"))
        )
        return int(len(X) * per_step * sum(len(s.predicted_steps) for s in self._fitted_series()))

    def _check_settings(self) -> None:
        for name, value, allowed in (
            ("network", self.network, (LSTM, MLP_TANH)),
            ("step_encoding", self.step_encoding, (LEARNED, SINUSOIDAL, NO_ENCODING)),
        ):
            if value not in allowed:
                raise ValueError(f"{name}: must be one of {', '.join(allowed)}, not {value!r}.")

    def _validate_training_data(self, X: Any, y: Any) -> tuple[Floats, Floats]:
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        X = validate_data(self, X, dtype=np.float64)
        y = check_array(
            y, ensure_2d=False, dtype=np.float64, ensure_all_finite="allow-nan", input_name="y"
        )
        check_consistent_length(X, y)
        if np.isnan(y).all():
            raise ValueError("y: all labels are missing (NaN).")
        return X, y

    def _split(self, n: int) -> list[Series]:
        steps = np.arange(1, n + 1) if self.steps is None else np.asarray(self.steps)
        groups = np.asarray([""] * n if self.step_groups is None else self.step_groups, str)
        if steps.shape != (n,) or groups.shape != (n,) or (steps < 1).any():
            raise ValueError(
                f"steps, step_groups: must have {n} values, one per column of y, and steps must be"
                f" at least 1, not {steps} and {groups}."
            )
        return split_into_series(steps.astype(np.int64), groups, self.interpolate)

    def _fitted_series(self) -> list[Series]:
        return [Series(*arrays) for arrays in self.series_]

    def _architecture(self) -> Architecture:
        max_steps = max(int(s.predicted_steps[-1]) for s in self._fitted_series())
        return Architecture(
            network=self.network,
            step_encoding=self.step_encoding,
            width=self.n_features_in_,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            head_size=self.head_size,
            n_encodings=0 if self.step_encoding == NO_ENCODING else max_steps + 1,
            n_series=len(self.series_),
        )

    def _standardise(self, X: Floats) -> Float32:
        return np.asarray((X - self.mean_) / self.scale_, np.float32)

    def _predict_series(self, X: Floats, i: int) -> Floats:
        """Return the expected quality at the predicted steps of series ``i``, (n_prompts, t)."""
        architecture, x = self._architecture(), self._standardise(X)
        steps = self._fitted_series()[i].predicted_steps
        scores = [
            forward(self.weights_, architecture, x[k : k + _PREDICTION_BATCH], steps, i)
            for k in range(0, len(x), _PREDICTION_BATCH)
        ]
        return self.low_ + np.concatenate(scores) * (self.high_ - self.low_)

    def _train(self, x: Float32, targets: list[Floats]) -> Weights:
        from catimage.estimators.lstm.training import TrainingSettings, train

        settings = TrainingSettings(
            learning_rate=self.learning_rate,
            dropout=self.dropout,
            batch_size=self.batch_size,
            max_iter=self.max_iter,
            device=self.device,
            seed=self.random_state,
        )
        return train(x, targets, self._fitted_series(), self._architecture(), settings)


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return the LSTM estimator for the numbers of steps of the candidates.

    Raises:
        InputError: the candidates have no numbers of steps, as in a workspace of imported scores.
    """
    if not context.steps or min(context.steps) < 1:
        raise InputError(
            f"train.estimators: {spec.name} ({spec.resolved_kind}) predicts series over denoising"
            " steps, but the candidates of imported scores have no number of steps. Remove it from"
            " the list."
        )
    steps = [int(s) for s in context.steps]
    groups = [str(g) for g in context.step_groups or [""] * len(steps)]
    return UnfittedEstimator(LSTMRegressor(steps, groups, random_state=context.seed))
