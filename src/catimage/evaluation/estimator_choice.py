"""``calibrate.estimator: auto``: the estimator whose deferral curve is best on prompts that it has
not learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.data.missing_labels import complete_rows
from catimage.errors import InputError
from catimage.estimators.load_estimators import read_out_of_fold
from catimage.routing.curve import deferral_curve
from catimage.stages.train import OUT_OF_FOLD

GROUPS = 20
"""Of prompts, for the jackknife."""


@dataclass(frozen=True)
class Compared:
    """An estimator's mean curve quality and how far it is behind the best one, each with its
    standard error (None for a single prompt).
    """

    estimator: str
    mean_curve_quality: float
    se: float | None
    behind: float
    behind_se: float | None


@dataclass(frozen=True)
class Comparison:
    """All estimators, the best first, and whether they were compared on training prompts,
    ``independent`` of the validation split.
    """

    rows: tuple[Compared, ...]
    independent: bool

    @property
    def best(self) -> str:
        """The name of the one that routes."""
        return self.rows[0].estimator

    def document(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "on": "train" if self.independent else "val",
            "estimators": [asdict(row) for row in self.rows],
        }

    def sentence(self, metric: str) -> str:
        """Why this one."""
        first, *others = self.rows
        where = "cross-validated" if self.independent else "validation"
        said = (
            f"{first.estimator} of {len(self.rows)}: {where} mean curve quality"
            f" {_with_error(first.mean_curve_quality, first.se)} {metric}"
        )
        return (
            f"{said}, {_with_error(others[0].behind, others[0].behind_se)} above"
            f" {others[0].estimator}"
            if others
            else said
        )


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.5g}" + ("" if error is None else f" (standard error {error:.2g})")


def held_out(
    folder: Path, names: list[str], prompt_ids: list[str], candidates: list[str]
) -> dict[str, Floats] | None:
    """Out-of-fold predictions (n_train, n_candidates) of each estimator in ``folder``; None where
    one has none (``train.folds: 0``).

    Raises:
        InputError: they are of other prompts or candidates than the workspace's.
    """
    found: dict[str, Floats] = {}
    for name in names:
        predicted = read_out_of_fold(folder / name / OUT_OF_FOLD, prompt_ids, candidates)
        if predicted is None:
            return None
        found[name] = predicted
    return found


def compare(
    predictions: Mapping[str, Floats], labels: Floats, cost: Floats, independent: bool
) -> Comparison:
    """Estimators by the mean over budgets of the quality of their routing, with errors by a
    jackknife over groups of prompts.

    Args:
        predictions: (n, n_candidates) by estimator; ``cost`` (n_candidates,).
        labels: (n, n_candidates); prompts that lack one (NaN) do not count.

    Raises:
        InputError: no prompt has all of its labels.
    """
    whole = complete_rows(labels)
    if not len(whole):
        raise InputError(
            "calibrate.estimator: auto compares on prompts with a score of every candidate, and"
            " there is none: name an estimator."
        )
    groups = np.random.default_rng(0).permutation(len(whole)) % min(GROUPS, len(whole))
    found = {
        name: _estimates(predicted[whole], labels[whole], cost, groups)
        for name, predicted in predictions.items()
    }
    names = sorted(found, key=lambda name: (-found[name][0], name))
    best = found[names[0]]
    rows = [
        Compared(
            n,
            float(found[n][0]),
            _error(found[n][1:]),
            float((best - found[n])[0]),
            _error((best - found[n])[1:]),
        )
        for n in names
    ]
    return Comparison(tuple(rows), independent)


def _estimates(predicted: Floats, labels: Floats, cost: Floats, groups: Ints) -> Floats:
    """Mean curve quality on all prompts, then without each group of them."""
    low, high = float(cost.min()), float(cost.max())
    every = [np.ones(len(groups), bool)] + (
        [groups != g for g in range(groups.max() + 1)] if groups.max() else []
    )
    return np.array(
        [
            deferral_curve(predicted[rows], cost, labels[rows]).mean_quality(low, high)
            for rows in every
        ]
    )


def _error(without: Floats) -> float | None:
    """The jackknife's standard error, from the estimates without each group."""
    g = len(without)
    return float(np.sqrt((g - 1) * without.var())) if g > 1 else None
