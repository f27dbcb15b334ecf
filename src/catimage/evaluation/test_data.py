"""The data of an evaluation: labels of the three splits and predictions of the estimators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats, Ints
from catimage.data.dataset import Candidates, Dataset
from catimage.data.importers.scores import parse_scores
from catimage.data.missing_labels import best_single_candidate, complete_rows
from catimage.data.prompts.identity import folded
from catimage.data.schema import PROMPTS
from catimage.errors import InputError
from catimage.estimators.fast_predict import fast_predict
from catimage.router import Router


def _no_prompts() -> pd.DataFrame:
    """Return an empty prompts table."""
    return pd.DataFrame(columns=PROMPTS.names)


@dataclass(frozen=True)
class LabelledPredictions:
    """Labels of one metric on the three splits, and the predictions of its estimators.

    All values are higher-is-better.

    Attributes:
        metric: the name of the metric.
        train: labels of the training prompts, (n_train, n_candidates), NaN where missing.
        validation: labels of the validation prompts, (n_val, n_candidates). Prompts with a missing
            label are left out.
        test: labels of the test prompts, (n_test, n_candidates). Prompts with a missing label are
            left out.
        predictions: by estimator, predictions for the validation prompts, (n_val, n_candidates),
            and for the test prompts, (n_test, n_candidates).
        test_by_seed: scores of the test prompts, (n_test, n_candidates, n_seeds), NaN where
            missing (:meth:`catimage.data.score_rows.ScoreRows.by_seed`); None if the seeds are
            unknown.
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
    def train_val_labels(self) -> Floats:
        """Labels of the train and validation splits, (n, n_candidates), NaN where missing.

        Use :func:`catimage.data.missing_labels.mean_labels` for their means, because a plain mean
        would depend on which labels are missing.
        """
        return np.concatenate([self.train, self.validation])

    def best_single(self, costs: Floats) -> int:
        """Return the index of the candidate with the best mean label of train and validation.

        Among equal candidates, the cheapest is selected, then the first.

        Args:
            costs: the candidates' costs, (n_candidates,).
        """
        return best_single_candidate(self.train_val_labels, costs)


def labelled_predictions(
    metric: str, dataset: Dataset, test: Dataset, estimators: Iterable[tuple[str, Pipeline]]
) -> LabelledPredictions:
    """Collect the labels of one metric, and predict them with the metric's estimators.

    Validation and test prompts with a missing label are left out and counted, because a router may
    choose the candidate without a label.

    Args:
        metric: the name of the metric.
        dataset: a dataset whose train and validation splits are used.
        test: a dataset of the test prompts.
        estimators: names and fitted estimators; an iterator may load them one at a time.

    Raises:
        InputError: a split is empty, or no prompt of the validation or test split has a label for
            every candidate.
    """
    train, validation = dataset.split("train").labels(metric), dataset.split("val")
    validation_labels, test_scores = validation.labels(metric), test.score_rows(metric)
    test_labels = test_scores.labels(test.complete)
    rows = _complete_rows(validation_labels, "validation", metric, dataset.paths.scores)
    test_rows = _complete_rows(test_labels, "test", metric, test.paths.scores)
    val_prompts, test_prompts = validation.take(rows), test.take(test_rows)
    return LabelledPredictions(
        metric,
        train,
        validation_labels[rows],
        test_labels[test_rows],
        _predictions(estimators, val_prompts, test_prompts),
        test_scores.by_seed()[test_rows],
        metric in test.lower_is_better,
        {"validation": len(validation) - len(val_prompts), "test": len(test) - len(test_prompts)},
        val_prompts.prompts,
        test_prompts.prompts,
    )


def _complete_rows(labels: Floats, split: str, metric: str, path: Path) -> Ints:
    """Return the positions of the prompts with all labels; raise an error if there are none."""
    rows = complete_rows(labels)
    if not len(rows):
        raise InputError(
            f"{path}: no prompt of the {split} split has a {metric} score for every candidate."
            f" Add scores of the {split} split (generate and label its images, or import the scores"
            " again with them), or use fewer candidates."
        )
    return rows


def _predictions(
    estimators: Iterable[tuple[str, Pipeline]], validation: Dataset, test: Dataset
) -> dict[str, tuple[Floats, Floats]]:
    return {
        name: (
            np.asarray(fast_predict(estimator, validation.texts), float),
            np.asarray(fast_predict(estimator, test.texts), float),
        )
        for name, estimator in estimators
    }


def router_candidates(router: Router, table: Candidates) -> Candidates:
    """Return the router's candidates and costs, with the generators and steps of ``table``.

    For a candidate that is missing in ``table``, the name of the generator is that of the
    candidate, and the number of steps is 0.
    """
    rows = {
        name: (generator, steps)
        for name, generator, steps in zip(table.names, table.generators, table.steps, strict=True)
    }
    columns = [rows.get(name, (name, 0)) for name in router.candidates]
    generators, steps = zip(*columns, strict=True)
    return Candidates(router.candidates, router.costs, router.cost_unit, generators, steps)


def external_test_dataset(path: Path, router: Router, dataset: Dataset) -> Dataset:
    """Read a scores file whose prompts are all used as test prompts.

    Print a warning if the file contains prompts of the train or validation split. The prompts of
    the split ``gate`` are as new to the router as those of the test split.

    Args:
        path: the path of the scores file.
        router: a router; the file must have scores of its metric for its candidates.
        dataset: the dataset of the workspace.

    Raises:
        InputError: the file is not a scores file of the router's candidates and metric, or a score
            is missing and ``dataset.complete`` is set.
    """
    scores_file = parse_scores(path, router.metric, router.candidates)
    scores_file.print_notes()
    scores_file.check_candidates(router.candidates, "the router")
    routed_scores = scores_file.select_metric(router.metric)
    if dataset.complete:
        routed_scores.check_complete([router.metric], router.candidates)
    used = dataset.prompts["split"].isin(["train", "val"])
    other_prompts = dataset.prompts.loc[used, "prompt"].map(folded)
    overlap = int(scores_file.prompts["prompt"].map(folded).isin(other_prompts).sum())
    if overlap:
        print(
            f"{path}: {overlap:,} of the {len(scores_file.prompts):,} prompts are in the train or"
            " validation split, so that the results are optimistic. Remove these prompts.",
            flush=True,
        )
    return Dataset(
        scores_file.prompts.assign(split="test"),
        scores_file.scores,
        dataset.candidates,
        dataset.lower_is_better,
        dataset.complete,
        dataset.paths._replace(prompts=path, scores=path),
    )
