"""Risk-averse routing: predicted qualities minus a multiple of their predictive spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates
from catimage.evaluation.intervals import CHUNK_SIZE, PairedBootstrap, percentile_interval
from catimage.routing.calibration import calibrate_to_budget
from catimage.routing.policy import choose

AVERSIONS = (0.0, 0.5, 1.0, 2.0)
"""Standard deviations that are subtracted."""
TAIL = 0.05
"""Share of the images that count as the worst ones."""


@dataclass(frozen=True)
class PredictedLabels:
    """Predicted labels of a split with their predictive standard deviations.

    Attributes:
        predicted: (n, n_candidates).
        spread: (n, n_candidates).
    """

    predicted: Floats
    spread: Floats

    def lower_bound(self, aversion: float) -> Floats:
        """Return the predictions minus ``aversion`` standard deviations (for equation 3)."""
        return self.predicted - aversion * self.spread


def risk_aversion_rows(
    validation: PredictedLabels,
    test: PredictedLabels,
    by_seed: Floats,
    candidates: Candidates,
    budget: float,
    bootstrap: PairedBootstrap,
    router_aversion: float = 0.0,
) -> list[dict[str, Any]]:
    """Return one row per risk aversion, starting with 0, each calibrated for the same budget.

    Rules are not randomized, so that rows differ only by their risk aversion.

    Args:
        validation: lambda is calibrated on these.
        test: routed.
        by_seed: scores (n_test, n_candidates, n_seeds), NaN where missing.
        candidates: the columns.
        budget: mean cost on the validation split.
        bootstrap: of the test prompts.
        router_aversion: the router's risk aversion, evaluated in addition to :data:`AVERSIONS`.
    """
    costs, routed_by_aversion = candidates.costs, {}
    for k in sorted({*AVERSIONS, router_aversion}):
        lam = calibrate_to_budget(validation.lower_bound(k), costs, budget, mix=False).lam
        routed_by_aversion[k] = lam, choose(test.lower_bound(k), costs, lam)
    rows, neutral = np.arange(len(by_seed)), routed_by_aversion[0.0][1]
    return [
        {
            "risk_aversion": k,
            "lambda": lam,
            "cost": float(costs[picks].mean()),
            "changed": float((picks != neutral).mean()),
        }
        | compare_with_neutral(by_seed[rows, picks], by_seed[rows, neutral], bootstrap)
        for k, (lam, picks) in routed_by_aversion.items()
    ]


def compare_with_neutral(
    images: Floats, neutral: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Compare a risk-averse choice with the risk-neutral one.

    ``worst`` is the 5% quantile of the images' quality, and ``worst_mean`` the mean of the images
    below it (conditional value at risk). Each ``gain`` is over the neutral choice, with the
    interval of a bootstrap paired over prompts.

    Args:
        images: scores of the chosen candidates' images, (n, n_seeds), NaN where missing.
        neutral: scores of the neutral choice's images, (n, n_seeds).
        bootstrap: of the prompts.
    """
    quality, neutral_quality = np.nanmean(images, axis=1), np.nanmean(neutral, axis=1)
    once = np.ones((1, len(images)), np.uint8)
    worst_mean = float(worst_means(images, once)[0])
    worst_gains = worst_means(images, bootstrap.counts) - worst_means(neutral, bootstrap.counts)
    return {
        "quality": float(quality.mean()),
        "gain": float((quality - neutral_quality).mean()),
        "interval": bootstrap.interval(quality - neutral_quality),
        "worst": float(np.nanquantile(images, TAIL)),
        "worst_mean": worst_mean,
        "worst_gain": worst_mean - float(worst_means(neutral, once)[0]),
        "worst_interval": percentile_interval(worst_gains),
        **_seed_variance(images, neutral, bootstrap),
    }


def _seed_variance(images: Floats, neutral: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Return ``seed_variance``: the mean over prompts of the variance over seeds.

    All figures are None if no prompt has two seeds.
    """
    two = ((~np.isnan(images)).sum(axis=1) > 1) & ((~np.isnan(neutral)).sum(axis=1) > 1)
    if not two.any():
        return {"seed_variance": None, "seed_variance_gain": None, "seed_variance_interval": None}
    variance, neutral_variance = (
        np.nanvar(np.where(two[:, None], values, 0.0), axis=1, ddof=1)
        for values in (images, neutral)
    )
    means = bootstrap.means(np.stack([variance - neutral_variance, two], axis=1))
    means = means[means[:, 1] > 0]
    return {
        "seed_variance": float(variance[two].mean()),
        "seed_variance_gain": float((variance - neutral_variance)[two].mean()),
        "seed_variance_interval": percentile_interval(means[:, 0] / means[:, 1]),
    }


def worst_means(images: Floats, counts: NDArray[np.uint8]) -> Floats:
    """Return the mean quality of the worst 5% of the images in each resample of the prompts.

    An image on the boundary counts with a fraction.

    Args:
        images: (n, n_seeds), NaN where missing; every prompt has at least one.
        counts: how often each resample contains each prompt, (draws, n).

    Returns:
        (draws,).
    """
    prompt, seed = np.nonzero(~np.isnan(images))
    order = np.argsort(images[prompt, seed], kind="stable")
    owner, values = prompt[order], images[prompt, seed][order]
    means = []
    for i in range(0, len(counts), CHUNK_SIZE):
        weight = counts[i : i + CHUNK_SIZE][:, owner].astype(float)
        total = TAIL * weight.sum(axis=1, keepdims=True)
        taken = np.clip(total - (np.cumsum(weight, axis=1) - weight), 0, weight)
        means.append(taken @ values / total[:, 0])
    return np.concatenate(means)
