"""BudgetFusion's estimator (section 3.3): quality as a series over denoising steps, by a
bidirectional LSTM.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from catimage.common.arrays import Float32, Floats
from catimage.errors import InputError
from catimage.estimators.base import CandidatesRegressor
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.lstm.network import (
    LEARNED,
    LSTM,
    NONE,
    SINUSOIDAL,
    TANH,
    Shape,
    Weights,
    forward,
)
from catimage.estimators.lstm.series import Series, series_of, targets_of
from catimage.params import EstimatorParams

_PROMPTS = 64
"""Prompts predicted at once, so that memory does not grow with their number."""


class LSTMRegressor(CandidatesRegressor):
    """A two-layer bidirectional LSTM over steps, then an MLP and a sigmoid (BudgetFusion 3.3,
    equation 6, figure 4).

    From the paper: the sum of prompt and step vectors as input, 512 units a direction, an MLP from
    1024 to 128 to 1, dropout on the LSTM's output, squared error, batches of 32 prompts, a rate of
    1e-4, 25 epochs (50 for I-CLIP), and labels interpolated to the steps between the sampled ones,
    which count like those. Labels are scaled to [0, 1] by one minimum and maximum, and NaN ones do
    not count.

    Where the paper is silent or of two minds:

    - The LSTM runs over every step from a series' fewest to its most, in training and afterwards:
    both ends of a bidirectional
      LSTM see what they were trained on. ``interpolate=False`` runs it over the sampled steps
      alone, in training and afterwards.
    - Steps are "position-embedded as in" BERT, which learns a vector a position
    (``encode_steps="learned"``); ``sinusoidal`` are
      the Transformer's fixed ones, ``none`` is Table 1's ablation.
    - The embeddings of a CLIP lie close together, so that each of their dimensions is first brought
    to mean 0 and variance 1.
    - Optimiser: Adam. Dropout: 0.1. Between the MLP's layers: ReLU.
    - ``network="mlp_tanh"`` (Table 1) has layers of the LSTM's output size with tanh in its place,
    and sees a step at a time.

    Candidates of several generators are a series each, told apart by a learned vector; with one
    generator there is none, as in the paper.

    Args:
        steps: of the candidates, in the order of the labels' columns; None: 1, 2, 3, ...
        generators: of the candidates; None: one for all.
        device: torch's name, or ``auto``; prediction is numpy's.
    """

    def __init__(
        self,
        steps: Any = None,
        generators: Any = None,
        hidden: int = 512,
        layers: int = 2,
        head: int = 128,
        network: str = LSTM,
        encode_steps: str = LEARNED,
        interpolate: bool = True,
        dropout: float = 0.1,
        rate: float = 1e-4,
        batch: int = 32,
        epochs: int = 25,
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.steps = steps
        self.generators = generators
        self.hidden = hidden
        self.layers = layers
        self.head = head
        self.network = network
        self.encode_steps = encode_steps
        self.interpolate = interpolate
        self.dropout = dropout
        self.rate = rate
        self.batch = batch
        self.epochs = epochs
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learns from embeddings X (n_prompts, width) and labels y (n_prompts, n_candidates) or
        (n_prompts,), NaN where missing.

        Raises:
            ValueError: steps or generators are not one a candidate, a step is below 1, no label is
                there, or a setting is none.
        """
        X, y = self._checked(X, y)
        labels = y.reshape(len(y), -1)
        self.flat_ = y.ndim == 1
        self.low_, self.high_ = float(np.nanmin(labels)), float(np.nanmax(labels))
        self.mean_, self.scale_ = X.mean(axis=0), np.maximum(X.std(axis=0), 1e-6)
        series = self._series(labels.shape[1])
        self.columns_ = [s.columns for s in series]
        self.steps_ = [s.steps for s in series]
        self.places_ = [s.places for s in series]
        scaled = (labels - self.low_) / max(self.high_ - self.low_, 1e-12)
        self.weights_ = self._train(
            self._standard(X), [targets_of(scaled[:, s.columns], s) for s in series]
        )
        return self

    def predict(self, X: Any) -> Floats:
        """Expected quality in the metric's unit: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        out = np.empty((len(X), sum(map(len, self.columns_))))
        for i, series in enumerate(self._fitted_series()):
            out[:, series.columns] = self._at_places(X, i)[:, series.at]
        return out[:, 0] if self.flat_ else out

    def predict_places(self, X: Any, series: int = 0) -> Floats:
        """Expected quality at all of ``places_[series]``: (n_prompts, n_places)."""
        check_is_fitted(self)
        return self._at_places(validate_data(self, X, reset=False, dtype=np.float64), series)

    def multiply_adds(self, X: Any) -> int:
        """Of predicting X: the products of the LSTM and the MLP at every place; sums and
        activations are left out.
        """
        check_is_fitted(self)
        each = sum(
            w.size
            for key, w in self.weights_.items()
            if w.ndim == 2 and not key.startswith(("steps", "series"))
        )
        return int(len(X) * each * sum(map(len, self.places_)))

    def _checked(self, X: Any, y: Any) -> tuple[Floats, Floats]:
        for name, value, known in (
            ("network", self.network, (LSTM, TANH)),
            ("encode_steps", self.encode_steps, (LEARNED, SINUSOIDAL, NONE)),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
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
            raise ValueError("no label is there: every y is NaN")
        return X, y

    def _series(self, candidates: int) -> list[Series]:
        steps = np.arange(1, candidates + 1) if self.steps is None else np.asarray(self.steps)
        generators = (
            np.zeros(candidates, str)
            if self.generators is None
            else np.asarray(self.generators, str)
        )
        if steps.shape != (candidates,) or generators.shape != (candidates,) or (steps < 1).any():
            raise ValueError(
                f"steps (1 or more) and generators must be {candidates}, one a column of y, not"
                f" {steps} and {generators}"
            )
        return series_of(steps.astype(np.int64), generators, self.interpolate)

    def _fitted_series(self) -> list[Series]:
        return [
            Series(*parts) for parts in zip(self.columns_, self.steps_, self.places_, strict=True)
        ]

    def _shape(self) -> Shape:
        places = 0 if self.encode_steps == NONE else max(int(p[-1]) for p in self.places_) + 1
        return Shape(
            self.network,
            self.encode_steps,
            self.n_features_in_,
            self.hidden,
            self.layers,
            self.head,
            places,
            len(self.places_),
        )

    def _standard(self, X: Floats) -> Float32:
        return np.asarray((X - self.mean_) / self.scale_, np.float32)

    def _at_places(self, X: Floats, series: int) -> Floats:
        shape, x, places = self._shape(), self._standard(X), self.places_[series]
        parts = [
            forward(self.weights_, shape, x[i : i + _PROMPTS], places, series)
            for i in range(0, len(x), _PROMPTS)
        ]
        return self.low_ + np.concatenate(parts) * (self.high_ - self.low_)

    def _train(self, x: Float32, targets: list[Floats]) -> Weights:
        from catimage.estimators.lstm.training import train

        return train(
            x,
            targets,
            self.places_,
            self._shape(),
            self.dropout,
            self.rate,
            self.batch,
            self.epochs,
            self.device,
            self.random_state,
        )


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """BudgetFusion 3.3's estimator over the candidates' steps.

    Raises:
        InputError: the candidates' steps are not known, as those of imported scores are not.
    """
    if not context.steps or min(context.steps) < 1:
        where = (
            f"train.estimators: {spec.name} ({spec.made_as}) predicts series over denoising steps"
        )
        raise InputError(
            f"{where}, and these candidates have none (imported scores know no steps): take it out"
            " of the list."
        )
    names: NDArray[np.str_] = np.asarray(context.step_groups or ("",) * len(context.steps), str)
    steps = [int(s) for s in context.steps]
    return UnfittedEstimator(LSTMRegressor(steps, names.tolist(), random_state=context.seed))
