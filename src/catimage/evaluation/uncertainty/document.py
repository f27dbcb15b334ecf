"""The key ``uncertainty`` of ``metrics.json``, and the coverage of prediction intervals.

The predictive spread is the standard deviation of a label around its prediction. A prediction
interval is the prediction plus or minus a multiple of the spread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.estimators.reordered import reordered
from catimage.evaluation.evaluate import Evaluation
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.text import compared_with
from catimage.evaluation.uncertainty.risk_aversion import PredictedLabels, risk_aversion_rows

LEVELS = {"68": 0.994458, "95": 1.959964}
"""Half-widths of the intervals of a normal distribution in standard deviations, by the probability
of the interval in percent.
"""

TrainedSpread = tuple[Pipeline, dict[str, Any]]
"""A trained estimator of the predictive spread, and its metadata."""


def uncertainty_document(
    evaluation: Evaluation, trained_spread: TrainedSpread | None
) -> dict[str, Any] | None:
    """Return the key ``uncertainty`` of ``metrics.json``.

    Args:
        evaluation: the router, the labels and the predictions.
        trained_spread: the predictive spread of the router's estimator; None if it was not trained,
            as with ``train.folds: 0``.

    Returns:
        The document; None if the seeds are unknown, or if there is no spread of every candidate (a
        candidate that was added after the training has none).
    """
    data, candidates = evaluation.routed, evaluation.candidates
    if trained_spread is None or data.test_by_seed is None:
        return None
    spread, meta = trained_spread
    if sorted(meta["candidates"]) != sorted(candidates.names):
        return None
    spread = reordered(spread, meta["candidates"], candidates.names)
    validation, test = (
        PredictedLabels(predicted, spread.predict(prompts["prompt"].to_numpy(object)))
        for predicted, prompts in (
            (evaluation.validation_predictions, data.validation_prompts),
            (evaluation.point.predicted, data.test_prompts),
        )
    )
    by_seed, bootstrap, router = data.test_by_seed, evaluation.bootstrap, evaluation.router
    seed_share = spread.named_steps["regressor"].seed_share_
    return {
        "by_prompt": meta["alpha"] is not None,
        "log_likelihood_gain": meta["log_likelihood_gain"],
        "by_candidate": coverage_rows(test, data.test, candidates.names, bootstrap, seed_share),
        "risk_aversion": risk_aversion_rows(
            validation, test, by_seed, candidates, router.budget, bootstrap, router.risk_aversion
        ),
    }


def coverage_rows(
    test: PredictedLabels,
    labels: Floats,
    names: list[str],
    bootstrap: PairedBootstrap,
    seed_share: Floats | None = None,
) -> list[dict[str, Any]]:
    """Return the coverage of the prediction intervals, one row per candidate.

    Args:
        test: predictions and spreads of the test prompts.
        labels: the labels of the test prompts, (n_test, n_candidates).
        names: the names of the candidates.
        bootstrap: resamples of the test prompts.
        seed_share: the share of the spread's variance that is due to seeds, (n_candidates,), NaN
            where unknown.
    """
    shares = np.full(len(names), np.nan) if seed_share is None else seed_share
    errors = labels - test.predicted
    return [
        coverage(name, error, spread, bootstrap)
        | {"seed_share": float(share) if np.isfinite(share) else None}
        for name, error, spread, share in zip(names, errors.T, test.spread.T, shares, strict=True)
    ]


def coverage(
    name: str, error: Floats, spread: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Return the root mean squares of spread and error, and the coverage of the intervals.

    The coverage is the share of the labels that lie within the prediction interval.

    Args:
        name: the name of the candidate.
        error: the label minus the prediction of each prompt, (n_prompts,).
        spread: the predictive standard deviation of each prompt, (n_prompts,).
        bootstrap: resamples of the prompts.
    """
    row: dict[str, Any] = {
        "candidate": name,
        "spread": float(np.sqrt(np.mean(spread**2))),
        "error": float(np.sqrt(np.mean(error**2))),
    }
    for level, width in LEVELS.items():
        within = (np.abs(error) <= width * spread).astype(float)
        row |= {
            f"coverage_{level}": float(within.mean()),
            f"interval_{level}": bootstrap.interval(within),
        }
    return row


def uncertainty_lines(document: dict[str, Any] | None) -> list[str]:
    """Return one line per risk aversion above 0; an empty list without a document."""
    lines = []
    for row in document["risk_aversion"][1:] if document else []:
        worst_images = {"gain": row["worst_gain"], "interval": row["worst_interval"]}
        lines.append(
            f"A risk aversion of {row['risk_aversion']:g}"
            f" {compared_with(row, 'a risk aversion of 0 in mean quality')}. In the mean of the"
            f" worst 5% of the images, it {compared_with(worst_images, 'a risk aversion of 0')}."
        )
    return lines
