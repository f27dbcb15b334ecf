"""One fold of the cross-validation of ``catimage compare``.

The *test prompts* are the prompts of the fold, on which the methods are evaluated. The
*training prompts* are those of the other folds, on which everything is fitted and selected.
"""

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
    out_of_fold_predictions,
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
class EstimatorFoldResult:
    """The predictions and times of one estimator in one fold.

    Attributes:
        out_of_fold: out-of-fold predictions of the training prompts, (n_train, n_candidates).
        predicted: predictions of the test prompts, (n_test, n_candidates).
        parameters: the selected parameters, by name.
        fit_seconds: the time to select the parameters and to fit, in seconds.
        decision_ms: the median time of a decision without text encoding, in milliseconds.
    """

    out_of_fold: Floats
    predicted: Floats
    parameters: dict[str, Any]
    fit_seconds: float
    decision_ms: float


@dataclass(frozen=True)
class FoldResult:
    """The results of one fold.

    Attributes:
        outcomes: the quality and cost of the test prompts, by method.
        estimator_results: the results of the estimators, by name.
        cost_ratios: ``cost_ratio_to_match_best_single`` on the deferral curve of the test prompts,
            by estimator.
        auto_estimator: the name of the estimator with the best curve on the training prompts.
        best_single_quality: the labels of the test prompts for the best single candidate of the
            training prompts, (n_test,).
        best_single_cost: the cost of this candidate, repeated for each test prompt, (n_test,).
    """

    outcomes: dict[str, FoldOutcome]
    estimator_results: dict[str, EstimatorFoldResult]
    cost_ratios: dict[str, float | None]
    auto_estimator: str
    best_single_quality: Floats
    best_single_cost: Floats


@dataclass(frozen=True)
class FoldEvaluator:
    """Fits the estimators on the training prompts of a fold and evaluates them on its test prompts.

    Attributes:
        data: the texts of all prompts, (n_prompts,), and their labels, (n_prompts, n_candidates).
        costs: the costs of the candidates, (n_candidates,).
        context: the context in which the estimators are built.
        settings: the section ``train`` of ``params.yaml``.
    """

    data: Split
    costs: Floats
    context: EstimatorContext
    settings: TrainParams

    def evaluate(self, train: Ints, test: Ints) -> FoldResult:
        """Fit all estimators on the training prompts and evaluate them on the test prompts.

        Args:
            train: the positions of the training prompts in ``data``, (n_train,).
            test: the positions of the test prompts, of which those with missing labels are left
                out, (n_test,).
        """
        texts, labels = self.data
        test = test[complete_rows(labels[test])]
        results = dict(self._fit_all((texts[train], labels[train]), texts[test]))
        complete = complete_rows(labels[train])
        training_labels, test_labels = labels[train][complete], labels[test]
        out_of_fold = {name: result.out_of_fold[complete] for name, result in results.items()}
        auto_estimator = estimator_with_best_curve(out_of_fold, training_labels, self.costs)
        predictions = {
            name: (out_of_fold[name], result.predicted) for name, result in results.items()
        }
        best = best_single_candidate(training_labels, self.costs)
        return FoldResult(
            outcomes=evaluate_fold(
                training_labels,
                test_labels,
                self.costs,
                predictions | {AUTO: predictions[auto_estimator]},
            ),
            estimator_results=results,
            cost_ratios={
                name: in_sample_cost_ratio(result.predicted, test_labels, self.costs, best)
                for name, result in results.items()
            },
            auto_estimator=auto_estimator,
            best_single_quality=test_labels[:, best],
            best_single_cost=np.full(len(test), self.costs[best]),
        )

    def _fit_all(
        self, train: Split, test: NDArray[np.object_]
    ) -> Iterator[tuple[str, EstimatorFoldResult]]:
        """Yield the name and the results of each estimator, fitted on the training prompts."""
        fitted: dict[str, Pipeline] = {}
        settings = self.settings
        folds = max(settings.folds, 2)
        for spec in in_dependency_order(settings.estimators):
            pipeline, grid = build_estimator(spec, replace(self.context, members=fitted))
            start = perf_counter()
            estimator = fitted[spec.name] = self._fit(pipeline, grid, train, spec)
            seconds = perf_counter() - start
            predicted = np.asarray(estimator.predict(test), float)
            check_finite(predicted, spec)
            new_texts = [f"{text} now" for text in test[:30]]  # without stored embeddings
            yield (
                spec.name,
                EstimatorFoldResult(
                    out_of_fold_predictions(estimator, train, folds, settings.seed + 2),
                    predicted,
                    selected_parameters(estimator, grid),
                    seconds,
                    decision_ms(estimator, new_texts, self.costs)["without_text"],
                ),
            )

    def _fit(self, pipeline: Pipeline, grid: Grid, train: Split, spec: EstimatorParams) -> Pipeline:
        """Select the parameters on one part of the training prompts, then fit on all of them."""
        texts, labels = train
        settings = self.settings
        splitter = KFold(max(settings.folds, 2), shuffle=True, random_state=settings.seed + 1)
        fit_rows, val_rows = next(splitter.split(texts))
        with settings_named_in_errors(spec):
            if has_choice(grid):
                parts = (texts[fit_rows], labels[fit_rows]), (texts[val_rows], labels[val_rows])
                pipeline = fit(pipeline, grid, *parts)
            return clone(pipeline).fit(texts, labels)


def estimator_with_best_curve(predictions: dict[str, Floats], labels: Floats, costs: Floats) -> str:
    """Return the name of the estimator whose deferral curve has the best mean quality.

    Args:
        predictions: the predicted labels by estimator, (n_prompts, n_candidates).
        labels: the labels, (n_prompts, n_candidates).
        costs: the costs of the candidates, (n_candidates,).
    """
    low, high = float(costs.min()), float(costs.max())
    qualities = {
        name: deferral_curve(predicted, costs, labels).mean_quality(low, high)
        for name, predicted in predictions.items()
    }
    return max(qualities, key=lambda name: qualities[name])
