"""A candidate added without training again, against training again: cems_dev's clip_score, each
candidate held out in turn, five-fold.

Routed by ridge on TF-IDF. Quality is that of the best predicted candidate (lambda 0), and the mean
over 100 budgets, each met by predictions alone, so that no figure has seen a test label. Intervals:
paired bootstrap over prompts. CATIMAGE_SHARED says where the scores are.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline

from benchmarks.measure import Row
from catimage.data.dataset import mean_over_seeds, seed_scores
from catimage.data.importers.scores import parse_costs, parse_scores
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.extended import extend_estimator
from catimage.estimators.fitting import fit, out_of_fold
from catimage.estimators.representatives import representatives
from catimage.evaluation.held_out import mean_over_budgets
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.policies import routed_outcome, routed_policies
from catimage.params import EstimatorParams

FOLDS, COUNTS, DRAWS = 5, (100, 200, 400), 2000
OLD, AGAIN, SINGLE = "not added", "trained again", "best single"
Way = tuple[str, int]
"""How the representatives were drawn, and how many."""


def rows() -> list[Row]:
    folder = Path(os.environ.get("CATIMAGE_SHARED", "../shared")) / "data" / "scores"
    if not folder.is_dir():
        return [Row("adding a candidate", f"skipped: {folder} is not there")]
    prompts, labels, cost = _data(folder)
    found: dict[str | Way, list[np.ndarray]] = defaultdict(list)
    for known, held in KFold(FOLDS, shuffle=True, random_state=0).split(prompts):
        for way, quality in _fold(prompts, labels, cost, known, held):
            found[way].append(quality)
    whole = {way: np.concatenate(parts) for way, parts in found.items()}
    return [_row(way, whole) for way in whole if way not in (AGAIN, SINGLE)]


def _data(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    file = parse_scores(folder / "cems_dev.scores.csv").only("clip_score")
    costs = parse_costs(folder / "cems_dev.costs.csv").sort_values("cost")
    by_seed = seed_scores(
        file.scores, "clip_score", file.prompts["prompt_id"].tolist(), costs["candidate"].tolist()
    )
    return (
        file.prompts["prompt"].to_numpy(object),
        mean_over_seeds(by_seed),
        costs["cost"].to_numpy(float),
    )


def _fold(
    prompts: np.ndarray, labels: np.ndarray, cost: np.ndarray, known: np.ndarray, held: np.ndarray
) -> Iterator[tuple[str | Way, np.ndarray]]:
    """For each way and each candidate held out, what every prompt of the fold gets: (n_held, 2),
    lambda 0 and mean over budgets.
    """
    cut = len(known) // 9
    pipeline, grid = build_estimator(EstimatorParams(name="ridge"), EstimatorContext())
    again = fit(
        pipeline,
        grid,
        (prompts[known[cut:]], labels[known[cut:]]),
        (prompts[known[:cut]], labels[known[:cut]]),
    )
    train = known[cut:]
    apart = out_of_fold(again, (prompts[train], labels[train]), 5, 0)
    predicted, true = again.predict(prompts[held]), labels[held]
    features = again.named_steps["features"].transform(prompts[train])
    drawn: dict[Way, np.ndarray] = {
        ("nearest to centres", n): representatives(features, n) for n in COUNTS
    }
    drawn |= {
        ("at random", n): np.random.default_rng(0).choice(len(train), n, replace=False)
        for n in COUNTS
    }
    single = true[:, [int(labels[train].mean(axis=0).argmax())] * 2]
    for new in range(labels.shape[1]):
        old = np.delete(np.arange(labels.shape[1]), new)
        base = _without(again, new, prompts[train], labels[train])
        yield SINGLE, single
        yield AGAIN, _quality(predicted, true, cost)
        yield OLD, _quality(predicted[:, old], true[:, old], cost[old], cost)
        for way, some in drawn.items():
            rows = train[some]
            grown = extend_estimator(
                base,
                new,
                prompts[rows],
                apart[some][:, old],
                labels[rows][:, old],
                labels[rows, new],
            )
            yield way, _quality(grown.predict(prompts[held]), true, cost)


def _without(estimator: Pipeline, new: int, prompts: np.ndarray, labels: np.ndarray) -> Pipeline:
    """The estimator with the parameters that it has, trained without a candidate."""
    regressor = clone(estimator.named_steps["regressor"])
    features = estimator.named_steps["features"]
    return Pipeline(
        [
            ("features", features),
            (
                "regressor",
                regressor.fit(features.transform(prompts), np.delete(labels, new, axis=1)),
            ),
        ]
    )


def _quality(
    predicted: np.ndarray, true: np.ndarray, cost: np.ndarray, span: np.ndarray | None = None
) -> np.ndarray:
    """(n, 2). ``span`` has the costs between whose ends the budgets lie; below the cheapest of
    ``cost`` that one is taken.
    """
    low, high = float(cost.min()), float((cost if span is None else span).max())
    family = routed_policies(predicted, predicted, predicted, true, cost)
    return np.column_stack(
        [routed_outcome(predicted, true, cost, 0.0).quality, mean_over_budgets(family, low, high)]
    )


def _row(way: str | Way, whole: dict[str | Way, np.ndarray]) -> Row:
    """Gains over the best single candidate beside those of training again, and the difference."""
    bootstrap = PairedBootstrap(len(whole[AGAIN]), DRAWS, 0)
    mine, again, single = whole[way], whole[AGAIN], whole[SINGLE]
    parts = bootstrap.intervals(
        np.column_stack([mine[:, 0] - single[:, 0], again[:, 0] - single[:, 0], mine - again])
    )
    means = [
        *(mine - single)[:, :1].mean(axis=0),
        *(again - single)[:, :1].mean(axis=0),
        *(mine - again).mean(axis=0),
    ]
    gain, full, less, curve = (
        f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        for mean, (low, high) in zip(means, parts, strict=True)
    )
    what = way if isinstance(way, str) else f"{way[1]} prompts {way[0]}"
    return Row(
        f"new candidate, {what}: gain over best single",
        gain,
        f"{full} (trained again)",
        f"{less}; mean curve quality {curve}",
    )
