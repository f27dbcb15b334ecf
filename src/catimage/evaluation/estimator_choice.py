"""Selection of the router's estimator if ``calibrate.estimator`` is ``auto``.

Estimators are compared by their mean curve quality, the mean over all budgets of the best quality
within the budget. It is measured on prompts that they were not fitted on: with out-of-fold
predictions for the training prompts if there are any, otherwise on the validation split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.data.dataset import Dataset
from catimage.data.missing_labels import complete_rows
from catimage.errors import InputError, nearest
from catimage.estimators.load_estimators import OUT_OF_FOLD, load_estimator, read_out_of_fold
from catimage.routing.curve import deferral_curve
from catimage.workspace import Workspace

N_GROUPS = 20
"""Number of groups of prompts of the jackknife."""


@dataclass(frozen=True)
class EstimatorResult:
    """The result of one estimator.

    Attributes:
        estimator: the name of the estimator.
        mean_curve_quality: the mean quality of the deferral curve over all budgets.
        se: the standard error of ``mean_curve_quality``; None with a single prompt.
        behind: the mean curve quality of the best estimator minus that of this one.
        behind_se: the standard error of ``behind``; None with a single prompt.
    """

    estimator: str
    mean_curve_quality: float
    se: float | None
    behind: float
    behind_se: float | None


@dataclass(frozen=True)
class EstimatorComparison:
    """A comparison of estimators.

    Attributes:
        rows: one result per estimator, the best first.
        cross_validated: whether the estimators were compared on training prompts, by out-of-fold
            predictions; if not, they were compared on validation prompts.
    """

    rows: tuple[EstimatorResult, ...]
    cross_validated: bool

    @property
    def best(self) -> str:
        """The name of the best estimator."""
        return self.rows[0].estimator

    def document(self) -> dict[str, Any]:
        """Return the comparison as a JSON document for ``router.json``."""
        return {
            "on": "train" if self.cross_validated else "val",
            "estimators": [asdict(row) for row in self.rows],
        }

    def summary(self, metric: str) -> str:
        """Return one line about the best estimator and its distance to the second best."""
        first, *others = self.rows
        method = "cross-validated" if self.cross_validated else "validation"
        quality = _with_error(first.mean_curve_quality, first.se)
        text = (
            f"{first.estimator} of {len(self.rows)}: {method} mean curve quality {quality} {metric}"
        )
        if not others:
            return text
        second = others[0]
        return f"{text}, {_with_error(second.behind, second.behind_se)} above {second.estimator}"


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.5g}" + ("" if error is None else f" (standard error {error:.2g})")


def select_estimator(
    workspace: Workspace, metric: str, estimator: str, data: Dataset
) -> tuple[str, EstimatorComparison | None]:
    """Select the estimator of a router.

    Args:
        workspace: a workspace with trained estimators.
        metric: the metric that the router maximizes.
        estimator: the setting ``calibrate.estimator``: ``auto``, or the name of an estimator.
        data: a dataset with the train and validation splits.

    Returns:
        The name of the estimator, and the comparison of the estimators (None unless ``estimator``
        is ``auto``).

    Raises:
        InputError: there is no trained estimator, ``estimator`` is not one of them, or no prompt
            has all of its labels.
    """
    folder, candidates = workspace.estimators / metric, data.candidates
    names = eligible_estimators(folder, estimator)
    if estimator != "auto":
        return names[0], None
    prompts = data.split("train")
    predictions = read_all_out_of_fold(folder, names, prompts.ids, candidates.names)
    cross_validated = predictions is not None
    if predictions is None:
        prompts = data.split("val")
        predictions = {
            name: load_estimator(workspace, folder / name, candidates.names).predict(prompts.texts)
            for name in names
        }
    labels = prompts.labels(metric)
    comparison = compare_estimators(predictions, labels, candidates.costs, cross_validated)
    return comparison.best, comparison


def eligible_estimators(folder: Path, estimator: str) -> list[str]:
    """Return the names of the estimators among which to select.

    Args:
        folder: the folder ``models/estimators/<metric>/`` of the trained estimators.
        estimator: ``auto`` for all of them, or the name of one.

    Raises:
        InputError: there is no trained estimator, or ``estimator`` is not one of them.
    """
    names = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if not names:
        raise InputError(f"{folder}: no trained estimator found. Run 'catimage train'.")
    if estimator != "auto" and estimator not in names:
        raise InputError(
            f"calibrate.estimator: {estimator!r} is not trained"
            f"{nearest(estimator, names)}. Set it to one of {', '.join(names)}, or to 'auto'."
        )
    return names if estimator == "auto" else [estimator]


def read_all_out_of_fold(
    folder: Path, names: Sequence[str], prompt_ids: list[str], candidates: list[str]
) -> dict[str, Floats] | None:
    """Read the out-of-fold predictions of several estimators for the training prompts.

    Args:
        folder: the folder of the trained estimators.
        names: the names of the estimators.
        prompt_ids: the ids of the training prompts.
        candidates: the names of the candidates.

    Returns:
        By estimator, predictions (n_train, n_candidates); None if an estimator has no out-of-fold
        predictions, as with ``train.folds: 0``.

    Raises:
        InputError: the stored predictions have other prompts or candidates.
    """
    predictions: dict[str, Floats] = {}
    for name in names:
        predicted = read_out_of_fold(folder / name / OUT_OF_FOLD, prompt_ids, candidates)
        if predicted is None:
            return None
        predictions[name] = predicted
    return predictions


def compare_estimators(
    predictions: Mapping[str, Floats], labels: Floats, cost: Floats, cross_validated: bool
) -> EstimatorComparison:
    """Compare estimators by their mean curve quality, with jackknife standard errors.

    Args:
        predictions: by estimator, predicted qualities, (n_prompts, n_candidates).
        labels: measured qualities, (n_prompts, n_candidates); prompts with a missing label (NaN)
            are ignored.
        cost: the candidates' costs, (n_candidates,).
        cross_validated: whether the predictions are out-of-fold predictions for training prompts.

    Raises:
        InputError: no prompt has all of its labels.
    """
    complete = complete_rows(labels)
    if not len(complete):
        raise InputError(
            "calibrate.estimator: 'auto' needs prompts with a score of every candidate, and there"
            " is none. Name an estimator, or generate and label more images."
        )
    groups = np.random.default_rng(0).permutation(len(complete)) % min(N_GROUPS, len(complete))
    estimates = {
        name: _jackknife_estimates(predicted[complete], labels[complete], cost, groups)
        for name, predicted in predictions.items()
    }
    names = sorted(estimates, key=lambda name: (-estimates[name][0], name))
    best = estimates[names[0]]
    rows = [
        EstimatorResult(
            name,
            float(estimates[name][0]),
            _jackknife_error(estimates[name][1:]),
            float((best - estimates[name])[0]),
            _jackknife_error((best - estimates[name])[1:]),
        )
        for name in names
    ]
    return EstimatorComparison(tuple(rows), cross_validated)


def _jackknife_estimates(predicted: Floats, labels: Floats, cost: Floats, groups: Ints) -> Floats:
    """Return the mean curve quality on all prompts, and on all prompts but one group.

    The result has the shape (1 + n_groups,), or (1,) if there is only one group.
    """
    low, high = float(cost.min()), float(cost.max())
    subsets = [np.ones(len(groups), bool)] + (
        [groups != g for g in range(groups.max() + 1)] if groups.max() else []
    )
    return np.array(
        [
            deferral_curve(predicted[rows], cost, labels[rows]).mean_quality(low, high)
            for rows in subsets
        ]
    )


def _jackknife_error(estimates: Floats) -> float | None:
    """Return the standard error from the estimates without one group, (n_groups,)."""
    g = len(estimates)
    return float(np.sqrt((g - 1) * estimates.var())) if g > 1 else None
