"""``catimage add-candidate`` compared with training again, on real scores.

The data are the clip_score labels of cems_dev (4,933 prompts, four generators), in the folder
``CATIMAGE_SHARED``. Each candidate is removed and added again, in a five-fold cross-validation with
ridge regression on TF-IDF features. The two statistics of a prompt are the quality of the candidate
with the best prediction (lambda 0) and the mean quality over 100 budgets; lambda is selected from
predictions only, so no test label is used. Intervals are from a paired bootstrap over prompts.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline

from benchmarks.measure import Row
from catimage.common.arrays import Floats, Ints
from catimage.data.importers.costs import parse_costs
from catimage.data.importers.scores import parse_scores
from catimage.data.score_rows import ScoreRows
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.extended import extend_estimator
from catimage.estimators.fitting import fit, out_of_fold_predictions
from catimage.estimators.representatives import representatives
from catimage.evaluation.held_out import mean_over_budgets
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.policies import routed_outcome, routed_policies
from catimage.params import EstimatorParams

FOLDS, COUNTS, DRAWS = 5, (100, 200, 400), 2000
"""Numbers of folds, of scored prompts of the new candidate, and of bootstrap draws."""
NOT_ADDED, TRAINED_AGAIN, BEST_SINGLE = "not added", "trained again", "best single"
Statistics = Floats
"""The two statistics of each prompt, (n_prompts, 2)."""


@dataclass(frozen=True)
class _Data:
    """Prompts (n,), labels (n, n_candidates) and costs (n_candidates,)."""

    prompts: np.ndarray
    labels: Floats
    costs: Floats


def rows() -> list[Row]:
    """Return a row for each method of adding a candidate."""
    folder = Path(os.environ.get("CATIMAGE_SHARED", "../shared")) / "data" / "scores"
    if not folder.is_dir():
        return [Row("add-candidate", f"{folder}: not found, skipped. Set CATIMAGE_SHARED.")]
    data = _read(folder)
    parts: dict[str, list[Statistics]] = defaultdict(list)
    for training, test in KFold(FOLDS, shuffle=True, random_state=0).split(data.prompts):
        for method, statistics in _evaluate_fold(data, training, test):
            parts[method].append(statistics)
    statistics = {method: np.concatenate(folds) for method, folds in parts.items()}
    return [
        _row(method, statistics)
        for method in statistics
        if method not in (TRAINED_AGAIN, BEST_SINGLE)
    ]


def _read(folder: Path) -> _Data:
    """Read the data set; candidates are ordered by cost."""
    file = parse_scores(folder / "cems_dev.scores.csv").select_metric("clip_score")
    costs = parse_costs(folder / "cems_dev.costs.csv").sort_values("cost")
    ids, names = file.prompts["prompt_id"].tolist(), costs["candidate"].tolist()
    labels = ScoreRows.select(file.scores, "clip_score", ids, names).labels()
    return _Data(file.prompts["prompt"].to_numpy(object), labels, costs["cost"].to_numpy(float))


def _evaluate_fold(data: _Data, training: Ints, test: Ints) -> Iterator[tuple[str, Statistics]]:
    """Yield the statistics of the test prompts for each removed candidate and method.

    Args:
        data: the data set.
        training: the positions of the prompts of the other folds, which are split into train and
            validation prompts.
        test: the positions of the test prompts.
    """
    val, train = np.split(training, [len(training) // 9])
    prompts, labels, costs = data.prompts, data.labels, data.costs
    pipeline, grid = build_estimator(EstimatorParams(name="ridge"), EstimatorContext())
    fitted = fit(pipeline, grid, (prompts[train], labels[train]), (prompts[val], labels[val]))
    out_of_fold = out_of_fold_predictions(fitted, (prompts[train], labels[train]), 5, 0)
    predicted, test_labels = fitted.predict(prompts[test]), labels[test]
    best = int(labels[train].mean(axis=0).argmax())
    samples = _samples(fitted.named_steps["features"].transform(prompts[train]))
    for new in range(labels.shape[1]):
        old = np.delete(np.arange(labels.shape[1]), new)
        base = _fit_without(fitted, new, prompts[train], labels[train])
        yield BEST_SINGLE, test_labels[:, [best, best]]
        yield TRAINED_AGAIN, _statistics(predicted, test_labels, costs)
        yield NOT_ADDED, _statistics(predicted[:, old], test_labels[:, old], costs[old], costs)
        for method, sample in samples.items():
            rows = train[sample]
            extended = extend_estimator(
                base,
                new,
                prompts[rows],
                out_of_fold[sample][:, old],
                labels[rows][:, old],
                labels[rows, new],
            )
            yield method, _statistics(extended.predict(prompts[test]), test_labels, costs)


def _samples(features: object) -> dict[str, Ints]:
    """Return the prompts to score, as positions in the train prompts, by method."""
    n = features.shape[0]  # type: ignore[attr-defined]
    samples = {f"{k} prompts nearest to centres": representatives(features, k) for k in COUNTS}
    for k in COUNTS:
        random = np.random.default_rng(0)
        samples[f"{k} prompts at random"] = random.choice(n, k, replace=False)
    return samples


def _fit_without(estimator: Pipeline, new: int, prompts: np.ndarray, labels: Floats) -> Pipeline:
    """Fit the regressor of an estimator, with the same parameters, to the other candidates."""
    features = estimator.named_steps["features"]
    regressor = clone(estimator.named_steps["regressor"])
    regressor.fit(features.transform(prompts), np.delete(labels, new, axis=1))
    return Pipeline([("features", features), ("regressor", regressor)])


def _statistics(
    predicted: Floats, labels: Floats, costs: Floats, all_costs: Floats | None = None
) -> Statistics:
    """Return both statistics; the largest budget is the maximum of ``all_costs`` or ``costs``."""
    low, high = float(costs.min()), float((costs if all_costs is None else all_costs).max())
    policies = routed_policies(predicted, predicted, predicted, labels, costs)
    best_quality = routed_outcome(predicted, labels, costs, 0.0).quality
    return np.column_stack([best_quality, mean_over_budgets(policies, low, high)])


def _row(method: str, statistics: dict[str, Statistics]) -> Row:
    """Return the row of a method.

    It has the gains of the method and of training again over the best single candidate, and the
    differences between the two statistics of the method and those of training again.
    """
    added, retrained, single = (statistics[name] for name in (method, TRAINED_AGAIN, BEST_SINGLE))
    differences = np.column_stack(
        [added[:, 0] - single[:, 0], retrained[:, 0] - single[:, 0], added - retrained]
    )
    intervals = PairedBootstrap(len(retrained), DRAWS, 0).intervals(differences)
    gain, retrained_gain, difference, curve_difference = (
        f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        for mean, (low, high) in zip(differences.mean(axis=0), intervals, strict=True)
    )
    return Row(
        f"new candidate, {method}: gain over best single",
        gain,
        f"{retrained_gain} (trained again)",
        f"{difference}; mean curve quality {curve_difference}",
    )
