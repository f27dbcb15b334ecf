"""One fold of the cross-validation of ``catimage compare``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats, Ints
from catimage.data.missing_labels import best_single_candidate, complete_rows
from catimage.estimators.build import build_estimator, in_dependency_order
from catimage.estimators.context import EstimatorContext, Grid
from catimage.estimators.fitting import (
    Split,
    check_finite,
    fit,
    has_choice,
    out_of_fold,
    selected_parameters,
    settings_named_in_errors,
)
from catimage.estimators.overhead import decision_ms
from catimage.evaluation.comparison import FoldOutcome, evaluate_fold, in_sample_cost_ratio
from catimage.params import EstimatorParams, TrainParams
from catimage.routing.curve import deferral_curve

AUTO = "auto"
"""The name of the method that uses the estimator selected in each fold."""


@dataclass(frozen=True)
class FoldEstimator:
    """An estimator of one fold.

    Attributes:
        held_out: out-of-fold predictions of the known prompts, (n_known, n_candidates).
        predicted: predictions of the evaluated prompts, (n_test, n_candidates).
        parameters: the selected parameters.
        seconds: the time to select the parameters and to fit.
        milliseconds: the median time of a decision, without text encoding.
    """

    held_out: Floats
    predicted: Floats
    parameters: dict[str, Any]
    seconds: float
    milliseconds: float


@dataclass(frozen=True)
class FoldResult:
    """The results of one fold.

    Attributes:
        outcomes: quality and cost of each method.
        estimators: the estimators by name.
        cost_ratios: ``cost_ratio_to_match_best_single`` of each estimator on the fold's own curve.
        selected: the estimator with the best mean curve quality on the known prompts.
        reference: labels of the best single candidate of the known prompts, (n_test,).
        reference_cost: its cost, (n_test,).
    """

    outcomes: dict[str, FoldOutcome]
    estimators: dict[str, FoldEstimator]
    cost_ratios: dict[str, float | None]
    selected: str
    reference: Floats
    reference_cost: Floats


@dataclass(frozen=True)
class FoldEvaluator:
    """Fits and evaluates the estimators on one fold after the other.

    Attributes:
        data: all prompts and their labels.
        costs: (n_candidates,).
        context: the context in which the estimators are built.
        settings: the section ``train`` of ``params.yaml``.
    """

    data: Split
    costs: Floats
    context: EstimatorContext
    settings: TrainParams

    def evaluate(self, known: Ints, test: Ints) -> FoldResult:
        """Fit all estimators on the prompts ``known`` and evaluate the prompts ``test``."""
        texts, labels = self.data
        test = test[complete_rows(labels[test])]
        estimators = dict(self._fit_all((texts[known], labels[known]), texts[test]))
        complete = complete_rows(labels[known])
        known_labels, test_labels = labels[known][complete], labels[test]
        held_out = {name: one.held_out[complete] for name, one in estimators.items()}
        selected = best_curve(held_out, known_labels, self.costs)
        predictions = {name: (held_out[name], one.predicted) for name, one in estimators.items()}
        best = best_single_candidate(known_labels, self.costs)
        return FoldResult(
            outcomes=evaluate_fold(
                known_labels,
                test_labels,
                self.costs,
                predictions | {AUTO: predictions[selected]},
            ),
            estimators=estimators,
            cost_ratios={
                name: in_sample_cost_ratio(one.predicted, test_labels, self.costs, best)
                for name, one in estimators.items()
            },
            selected=selected,
            reference=test_labels[:, best],
            reference_cost=np.full(len(test), self.costs[best]),
        )

    def _fit_all(
        self, known: Split, test: NDArray[np.object_]
    ) -> Iterator[tuple[str, FoldEstimator]]:
        fitted: dict[str, Pipeline] = {}
        settings = self.settings
        folds = max(settings.folds, 2)
        for spec in in_dependency_order(settings.estimators):
            pipeline, grid = build_estimator(spec, replace(self.context, members=fitted))
            start = perf_counter()
            estimator = fitted[spec.name] = self._fit(pipeline, grid, known, spec)
            seconds = perf_counter() - start
            predicted = np.asarray(estimator.predict(test), float)
            check_finite(predicted, spec)
            new_texts = [f"{text} now" for text in test[:30]]  # stored embeddings take no time
            yield (
                spec.name,
                FoldEstimator(
                    out_of_fold(estimator, known, folds, settings.seed + 2),
                    predicted,
                    selected_parameters(estimator, grid),
                    seconds,
                    decision_ms(estimator, new_texts, self.costs)["without_text"],
                ),
            )

    def _fit(self, pipeline: Pipeline, grid: Grid, known: Split, spec: EstimatorParams) -> Pipeline:
        """Select the parameters on one part of the known prompts, then fit on all of them."""
        texts, labels = known
        settings = self.settings
        splitter = KFold(max(settings.folds, 2), shuffle=True, random_state=settings.seed + 1)
        train, val = next(splitter.split(texts))
        with settings_named_in_errors(spec):
            if has_choice(grid):
                parts = (texts[train], labels[train]), (texts[val], labels[val])
                pipeline = fit(pipeline, grid, *parts)
            return clone(pipeline).fit(texts, labels)


def best_curve(predictions: dict[str, Floats], labels: Floats, costs: Floats) -> str:
    """Return the estimator with the best mean curve quality.

    Args:
        predictions: by estimator, (n_prompts, n_candidates).
        labels: (n_prompts, n_candidates).
        costs: (n_candidates,).
    """
    low, high = float(costs.min()), float(costs.max())
    qualities = {
        name: deferral_curve(predicted, costs, labels).mean_quality(low, high)
        for name, predicted in predictions.items()
    }
    return max(qualities, key=lambda name: qualities[name])
