"""Predictions and labels of a step series, for the calibration and the test of the plateau rule.

A step series consists of the candidates of one generator that differ only in their number of
denoising steps. OURS is the condition in which the plateau rule chooses the number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats, Ints
from catimage.data.dataset import Candidates
from catimage.data.missing_labels import complete_rows
from catimage.data.shards.images import mean_seconds
from catimage.errors import InputError
from catimage.evaluation.plateau.conditions import Baseline, StepData
from catimage.evaluation.plateau.steps import StepSeries
from catimage.evaluation.test_data import LabelledPredictions
from catimage.params import PlateauParams
from catimage.routing.plateau import turning_points


def series_estimators(settings: PlateauParams) -> dict[str, str]:
    """Return the name of the estimator that predicts each metric of the plateau rule."""
    return {m: metric.estimator or settings.estimator for m, metric in settings.metrics.items()}


@dataclass(frozen=True)
class SeriesData:
    """Labels and predictions of the metrics of the plateau rule, for one step series.

    Attributes:
        metrics: by metric, labels and predictions of all candidates.
        candidates: the candidates, in the order of the columns of labels and predictions.
        series: the step series.
        settings: the section ``evaluate.plateau`` of ``params.yaml``.
        upper_ends: the upper end of the range of each lower-is-better metric; infinite if unknown.
        out_of_fold: by metric, the out-of-fold predictions of the metric's estimator for the
            training prompts, (n_train, n_candidates); empty with ``train.folds: 0``.
        images: the folder of the image shards; None if there are no images.
    """

    metrics: Mapping[str, LabelledPredictions]
    candidates: Candidates
    series: StepSeries
    settings: PlateauParams
    upper_ends: Mapping[str, float]
    out_of_fold: Mapping[str, Floats]
    images: Path | None = None

    @property
    def costs(self) -> Floats:
        """The costs of the candidates in the series, (n_steps,)."""
        return self.candidates.costs[self.series.columns]

    @cached_property
    def inversion_constants(self) -> dict[str, float]:
        """The constants from which the values of lower-is-better metrics are subtracted.

        The constant of a metric is the upper end of its range. If this end is infinite, it is the
        largest value among the labels of the train and validation splits.
        """
        lower = {m: data for m, data in self.metrics.items() if data.lower_is_better}
        return {
            m: (
                self.upper_ends[m]
                if np.isfinite(self.upper_ends[m])
                else float(-np.nanmin(data.train_val_labels))
            )
            for m, data in lower.items()
        }

    @property
    def offsets(self) -> Floats:
        """The constants that are added to the labels of each metric, (1, n_metrics, 1)."""
        return np.array([self.inversion_constants.get(m, 0.0) for m in self.metrics])[None, :, None]

    def calibration_set(self) -> tuple[Floats, Floats]:
        """Return predictions and labels of prompts that the estimators were not fitted on.

        These are the validation prompts and, if there are out-of-fold predictions, the training
        prompts. Prompts with a missing label are left out.

        Returns:
            The predictions and the labels, both (n, n_metrics, n_steps).

        Raises:
            InputError: there is no such prompt.
        """
        sets = [self._validation_set()]
        if len(self.out_of_fold) == len(self.metrics):
            sets.append(self._train_set())
        predicted, labels = (np.concatenate(arrays) for arrays in zip(*sets, strict=True))
        if not len(predicted):
            raise InputError(
                "evaluate.plateau: no validation prompt has a label of every plateau metric for"
                " every candidate. Generate and label more images of the validation split."
            )
        return predicted, labels

    def _validation_set(self) -> tuple[Floats, Floats]:
        """Return predictions and labels of the validation prompts that have all labels."""
        columns, estimators = self.series.columns, series_estimators(self.settings)
        indexes = [pd.Index(data.validation_prompts["prompt_id"]) for data in self.metrics.values()]
        common = indexes[0][[all(i in index for index in indexes[1:]) for i in indexes[0]]]
        rows = [index.get_indexer(common) for index in indexes]
        predicted = [
            data.predictions[estimators[m]][0][r][:, columns]
            for (m, data), r in zip(self.metrics.items(), rows, strict=True)
        ]
        labels = [
            data.validation[r][:, columns]
            for data, r in zip(self.metrics.values(), rows, strict=True)
        ]
        return np.stack(predicted, axis=1), np.stack(labels, axis=1)

    def _train_set(self) -> tuple[Floats, Floats]:
        """Return out-of-fold predictions and labels of the training prompts with all labels."""
        columns = self.series.columns
        labels = np.stack([data.train[:, columns] for data in self.metrics.values()], axis=1)
        predicted = np.stack([self.out_of_fold[m][:, columns] for m in self.metrics], axis=1)
        rows = complete_rows(labels.reshape(len(labels), -1))
        return predicted[rows], labels[rows]

    def step_data(self, omega: Floats) -> StepData:
        """Return labels and predictions of the test prompts that have all labels of all metrics.

        Args:
            omega: the weights of equation 7 of the BudgetFusion paper, (n_metrics,). They determine
                the mean cost of OURS, at which baselines are selected.

        Raises:
            InputError: there is no such prompt.
        """
        ids, rows = self._test_rows()
        columns, candidates = self.series.columns, self.candidates
        labels = [data.test[r] for data, r in zip(self.metrics.values(), rows, strict=True)]
        quality = np.stack(labels, axis=1) + self.offsets
        predicted = self._predicted(rows)
        step_values = predicted[self.settings.estimator]
        t_star = turning_points(step_values, omega, self.settings.literal, self.settings.margin)
        seconds = mean_seconds(self.images, ids, candidates.names) if self.images else None
        train = [np.nanmean(data.train[:, columns], axis=0) for data in self.metrics.values()]
        return StepData(
            candidates=[candidates.names[c] for c in columns],
            steps=self.series.steps,
            cost=self.costs,
            unit=candidates.unit,
            metrics=list(self.metrics),
            inversion_constants=self.inversion_constants,
            quality=quality[:, :, columns],
            predicted=predicted,
            mean=np.stack(train) + self.offsets[0],
            reference=self.series.reference,
            seconds=None if seconds is None else _if_complete(seconds[:, columns]),
            baselines=self._baselines(quality, seconds, float(self.costs[t_star].mean())),
        )

    def _test_rows(self) -> tuple[list[str], list[Ints]]:
        """Return the ids of the prompts with all labels, and the rows of each metric's data."""
        indexes = [pd.Index(data.test_prompts["prompt_id"]) for data in self.metrics.values()]
        common = np.array(indexes[0], str)
        for index in indexes[1:]:
            common = np.intersect1d(common, np.array(index, str))
        if not len(common):
            raise InputError(
                "evaluate.plateau: no test prompt has a label of every plateau metric for every"
                " candidate. Generate and label more images of the test split."
            )
        ids = common.tolist()
        return ids, [index.get_indexer(pd.Index(ids)) for index in indexes]

    def _predicted(self, rows: list[Ints]) -> dict[str, Floats]:
        """Return the predictions by estimator, (n_test, n_metrics, n_steps).

        Under the name ``evaluate.plateau.estimator``, each metric has the predictions of the
        estimator that is set for this metric (:func:`series_estimators`).
        """
        settings, columns = self.settings, self.series.columns
        estimator_names = (name for data in self.metrics.values() for name in data.predictions)
        predicted = {}
        for name in dict.fromkeys([settings.estimator, *estimator_names]):
            by_metric = (
                series_estimators(settings)
                if name == settings.estimator
                else dict.fromkeys(self.metrics, name)
            )
            step_values = [
                _test_predictions(data, by_metric[m], r)[:, columns]
                for (m, data), r in zip(self.metrics.items(), rows, strict=True)
            ]
            predicted[name] = np.stack(step_values, axis=1) + self.offsets
        return predicted

    def _baselines(
        self, quality: Floats, seconds: Floats | None, mean_cost: float
    ) -> list[Baseline]:
        """Return the candidate of every other step group whose cost is nearest to that of OURS.

        Section 4.2 of the BudgetFusion paper chooses the costs in this way "for fair comparison".

        Args:
            quality: the labels of all candidates plus the offsets, (n_test, n_metrics,
                n_candidates).
            seconds: the seconds per image of all candidates, (n_test, n_candidates), or None.
            mean_cost: the mean cost of OURS.
        """
        names, costs = self.candidates.names, self.candidates.costs
        nearest = [
            min(group, key=lambda c: abs(float(costs[c]) - mean_cost))
            for group in self.series.others
        ]
        return [
            Baseline(
                names[c],
                float(costs[c]),
                quality[:, :, c],
                None if seconds is None else _if_complete(seconds[:, c]),
            )
            for c in sorted(nearest, key=lambda c: float(costs[c]))
        ]


def _test_predictions(data: LabelledPredictions, estimator: str, rows: Ints) -> Floats:
    """Return predictions (n_test, n_candidates); NaN if the estimator is not trained."""
    if estimator not in data.predictions:
        return np.full((len(rows), data.test.shape[1]), np.nan)
    return data.predictions[estimator][1][rows]


def _if_complete(values: Floats) -> Floats | None:
    """Return ``values``, or None if any value is missing."""
    return values if np.isfinite(values).all() else None
