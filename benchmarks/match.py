"""Coverage of ``calibrate.match_confidence`` on real scores, in the folder ``CATIMAGE_SHARED``.

For each data set, ridge regression on TF-IDF features is fitted to 40% of the prompts. Then, 200
times, 10% of the prompts are sampled as the validation split, and the others are the new prompts.
The lambda of ``selected.match`` is selected on the validation split, and the quality on the new
prompts is compared with that of the best single candidate. The alternative is the cheapest lambda
whose validation quality reaches that of the best single candidate. Each row has the mean share of
the best single candidate's cost that the selected lambda spends on new prompts, and how often its
quality on them is lower (required: at most 5%). The name has the share at which the qualities are
equal on all prompts that are not used for fitting.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchmarks.measure import Row
from catimage.common.arrays import Floats, Ints
from catimage.data.importers.costs import parse_costs
from catimage.data.importers.scores import parse_scores
from catimage.data.score_rows import ScoreRows
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.fitting import fit
from catimage.evaluation.curve_queries import cost_at, position_to_match
from catimage.evaluation.policies import routed_outcome
from catimage.params import EstimatorParams
from catimage.routing.curve import deferral_curve, lambda_of_point
from catimage.routing.match import MatchSearch

SAMPLES, CONFIDENCE = 200, 0.95
DATA_SETS = (
    ("cems_dev.scores.csv", "clip_score"),
    ("flasheval_dev.scores.parquet", "image_reward"),
    ("flasheval_diffusiondb_dev.scores.parquet", "image_reward"),
)
"""Names of the files of scores, and the metric of each."""


def rows() -> list[Row]:
    """Return a row for each data set."""
    folder = Path(os.environ.get("CATIMAGE_SHARED", "../shared")) / "data" / "scores"
    if not folder.is_dir():
        return [Row("match", f"{folder}: not found, skipped. Set CATIMAGE_SHARED.")]
    return [_row(folder / name, metric) for name, metric in DATA_SETS]


def _row(path: Path, metric: str) -> Row:
    """Return the row of a data set."""
    file = parse_scores(path).select_metric(metric)
    costs = parse_costs(path.with_name(path.name.split(".")[0] + ".costs.csv"))
    costs = costs.sort_values("cost", kind="stable")
    ids, names = file.prompts["prompt_id"].tolist(), costs["candidate"].tolist()
    labels = ScoreRows.select(file.scores, metric, ids, names, path).labels()
    prompts, cost = file.prompts["prompt"].to_numpy(object), costs["cost"].to_numpy(float)
    order = np.random.default_rng(0).permutation(len(prompts))
    train, others = np.split(order, [int(0.4 * len(order))])
    n_val = len(prompts) // 10
    predicted = _predict(prompts, labels, train, others)
    best = int(labels[train].mean(axis=0).argmax())
    crossing = _naive(predicted, labels[others], cost, best)
    curve = deferral_curve(predicted, cost, labels[others])
    share = "never" if crossing is None else f"{cost_at(curve, crossing) / cost[best]:.1%}"
    certified, naive = _simulate(predicted, labels[others], cost, best, n_val)
    return Row(
        f"match, {path.name.split('.')[0]}, {n_val:,} validation prompts; equal at {share}",
        certified,
        f"{naive} (cheapest with equal validation quality)",
        target="5% worse",
    )


def _predict(prompts: np.ndarray, labels: Floats, train: Ints, others: Ints) -> Floats:
    """Fit the estimator to nine tenths of the training prompts, and predict the other prompts."""
    val, fitted = np.split(train, [len(train) // 10])
    pipeline, grid = build_estimator(EstimatorParams(name="ridge"), EstimatorContext())
    estimator = fit(pipeline, grid, (prompts[fitted], labels[fitted]), (prompts[val], labels[val]))
    return np.asarray(estimator.predict(prompts[others]), float)


def _naive(predicted: Floats, labels: Floats, cost: Floats, best: int) -> float | None:
    """Return the cheapest position whose quality reaches that of the candidate ``best``."""
    curve = deferral_curve(predicted, cost, labels)
    return position_to_match(curve, float(labels[:, best].mean()))


def _simulate(
    predicted: Floats, labels: Floats, cost: Floats, best: int, n_val: int
) -> tuple[str, str]:
    """Select lambda on samples of the prompts, and describe the results on the others.

    Returns:
        Descriptions of the certified and of the naive selection.
    """
    rng, results = np.random.default_rng(1), np.full((2, SAMPLES, 2), np.nan)
    for i in range(SAMPLES):
        val, new = np.split(rng.permutation(len(labels)), [n_val])
        positions = (
            MatchSearch(predicted[val], cost, labels[val]).certified(best, CONFIDENCE),
            _naive(predicted[val], labels[val], cost, best),
        )
        curve = deferral_curve(predicted[val], cost)
        for method, position in enumerate(positions):
            if position is not None:
                lam = lambda_of_point(curve, int(position))
                outcome = routed_outcome(predicted[new], labels[new], cost, lam)
                gain = (outcome.quality - labels[new, best]).mean()
                results[method, i] = outcome.cost.mean() / cost[best], gain
    certified, naive = (_description(result) for result in results)
    return certified, naive


def _description(results: Floats) -> str:
    """Describe cost shares and gains, (n_samples, 2), NaN where no lambda was selected."""
    found = ~np.isnan(results[:, 0])
    if not found.any():
        return "no lambda selected"
    share, gain = results[found].mean(axis=0)
    worse, missing = (results[:, 1] < 0).mean(), (~found).mean()
    return (
        f"{share:.1%} of the cost, gain {gain:+.3g}, {worse:.1%} worse, {missing:.1%} without match"
    )
