"""The data that methods are evaluated on: labels of the three splits and predictions of the
estimators.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats, Ints
from catimage.data.dataset import Candidates, Dataset, mean_over_seeds
from catimage.data.importers.scores import parse_scores
from catimage.data.missing_labels import best_single_candidate, complete_rows
from catimage.data.prompts.identity import folded
from catimage.data.schema import PROMPTS
from catimage.errors import InputError
from catimage.router import Router


def _no_prompts() -> pd.DataFrame:
    return pd.DataFrame(columns=PROMPTS.names)


@dataclass(frozen=True)
class LabelledPredictions:
    """Labels of one metric on the three splits, and the predictions of its estimators.

    All values are higher-is-better.

    Attributes:
        metric: name of the metric.
        train: labels (n_train, n_candidates), NaN where missing.
        validation: labels (n_val, n_candidates); prompts with a missing label are left out.
        test: labels (n_test, n_candidates); prompts with a missing label are left out.
        predictions: by estimator, predictions of the validation and of the test prompts,
            (n_val, n_candidates) and (n_test, n_candidates).
        test_by_seed: scores (n_test, n_candidates, n_seeds), NaN where missing; None if the seeds
            are unknown.
        lower_is_better: whether the values of the metric were negated.
        left_out: by split (``validation``, ``test``), the number of prompts that were left out.
        validation_prompts: rows of the prompts table, one per row of ``validation``.
        test_prompts: rows of the prompts table, one per row of ``test``.
    """

    metric: str
    train: Floats
    validation: Floats
    test: Floats
    predictions: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    test_by_seed: Floats | None = None
    lower_is_better: bool = False
    left_out: dict[str, int] = field(default_factory=dict)
    validation_prompts: pd.DataFrame = field(default_factory=_no_prompts)
    test_prompts: pd.DataFrame = field(default_factory=_no_prompts)

    @property
    def known_labels(self) -> Floats:
        """Labels of the train and validation splits, (n, n_candidates), NaN where missing.

        Their means are those of :func:`catimage.data.missing_labels.mean_labels`.
        """
        return np.concatenate([self.train, self.validation])

    def best_single(self, costs: Floats) -> int:
        """Return the index of the candidate with the best mean known label.

        A tie goes to the cheaper candidate, then to the first.
        """
        return best_single_candidate(self.known_labels, costs)


def labelled_predictions(
    metric: str, dataset: Dataset, test: Dataset, estimators: Iterable[tuple[str, Pipeline]]
) -> LabelledPredictions:
    """Collect the labels of one metric and predict them with its estimators.

    Validation and test prompts with a missing label are left out and counted: equation 3 may choose
    any candidate.

    Args:
        metric: name of the metric.
        dataset: its train and validation splits are used.
        test: the test prompts.
        estimators: names and fitted estimators; an iterator may load them one at a time.

    Raises:
        InputError: a split is empty, or no prompt of the validation or test split has a label for
            every candidate.
    """
    train, validation = dataset.split("train").labels(metric), dataset.split("val")
    validation_labels, by_seed = validation.labels(metric), test.seed_scores(metric)
    test_labels = mean_over_seeds(by_seed, test.complete)
    rows = _complete_rows(validation_labels, "validation", metric)
    test_rows = _complete_rows(test_labels, "test", metric)
    val_prompts, test_prompts = validation.take(rows), test.take(test_rows)
    return LabelledPredictions(
        metric,
        train,
        validation_labels[rows],
        test_labels[test_rows],
        _predictions(estimators, val_prompts, test_prompts),
        by_seed[test_rows],
        metric in test.lower_is_better,
        {"validation": len(validation) - len(val_prompts), "test": len(test) - len(test_prompts)},
        val_prompts.prompts,
        test_prompts.prompts,
    )


def _complete_rows(labels: Floats, split: str, metric: str) -> Ints:
    rows = complete_rows(labels)
    if not len(rows):
        raise InputError(
            f"scores: no prompt of the {split} split has a {metric} score for every candidate, and"
            " the evaluation needs such prompts. Generate and label the missing images of that"
            " split, or route on fewer candidates."
        )
    return rows


def _predictions(
    estimators: Iterable[tuple[str, Pipeline]], validation: Dataset, test: Dataset
) -> dict[str, tuple[Floats, Floats]]:
    return {
        name: (
            np.asarray(estimator.predict(validation.texts), float),
            np.asarray(estimator.predict(test.texts), float),
        )
        for name, estimator in estimators
    }


def router_candidates(router: Router, table: Candidates) -> Candidates:
    """Return the router's candidates with the generators and steps of ``table``.

    A candidate that ``table`` lacks is its own generator and has 0 steps.
    """
    rows = {
        name: (generator, steps)
        for name, generator, steps in zip(table.names, table.generators, table.steps, strict=True)
    }
    columns = [rows.get(name, (name, 0)) for name in router.candidates]
    generators, steps = zip(*columns, strict=True)
    return Candidates(router.candidates, router.costs, router.cost_unit, generators, steps)


def external_test_dataset(path: Path, router: Router, dataset: Dataset) -> Dataset:
    """Read a scores file whose prompts are all test prompts.

    Prints a warning if it contains prompts of the train or validation split.

    Args:
        path: the scores file.
        router: the router whose candidates and metric the file must have.
        dataset: the workspace's prompts, candidates and settings.

    Raises:
        InputError: the file is not a scores file of the router's candidates and metric, or a score
            is missing and ``dataset.complete`` is set.
    """
    file = parse_scores(path)
    file.check_candidates(router.candidates, "the router")
    routed = file.only(router.metric)
    if dataset.complete:
        routed.check_complete([router.metric], router.candidates)
    other_prompts = dataset.prompts.loc[dataset.prompts["split"] != "test", "prompt"].map(folded)
    overlap = int(file.prompts["prompt"].map(folded).isin(other_prompts).sum())
    if overlap:
        print(
            f"evaluate: {overlap:,} of the {len(file.prompts):,} prompts of {path} are in the train"
            " or validation split. The figures are optimistic for them.",
            flush=True,
        )
    return Dataset(
        file.prompts, file.scores, dataset.candidates, dataset.lower_is_better, dataset.complete
    )
