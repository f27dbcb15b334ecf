"""Risk-averse routing, which subtracts a multiple of the spread from every predicted quality.

The spread is the standard deviation of a label around its prediction. The multiple is called the
*risk aversion*; routing with a risk aversion of 0 is *risk-neutral*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints
from catimage.data.dataset import Candidates
from catimage.evaluation.intervals import CHUNK_SIZE, PairedBootstrap, percentile_interval
from catimage.routing.calibration import calibrate_to_budget
from catimage.routing.policy import choose

AVERSIONS = (0.0, 0.5, 1.0, 2.0)
"""Risk aversions that are evaluated."""
WORST_SHARE = 0.05
"""Share of the images that count as the worst images."""


@dataclass(frozen=True)
class PredictedLabels:
    """Predicted labels of a split with their predictive standard deviations.

    Attributes:
        predicted: the predicted labels, (n_prompts, n_candidates).
        spread: the predictive standard deviations of the labels, (n_prompts, n_candidates).
    """

    predicted: Floats
    spread: Floats

    def lower_bound(self, aversion: float) -> Floats:
        """Return the predictions minus ``aversion`` standard deviations."""
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
    """Return one row per risk aversion in ascending order, starting with 0.

    For each risk aversion, lambda is calibrated for the same budget. Rules are not randomized, so
    that the rows differ only by their risk aversion.

    Args:
        validation: predictions and spreads of the validation prompts, on which lambda is
            calibrated.
        test: predictions and spreads of the test prompts.
        by_seed: scores of the test prompts, (n_test, n_candidates, n_seeds), NaN where missing.
        candidates: the candidates, in the order of the columns of all arrays.
        budget: the mean cost on the validation split.
        bootstrap: resamples of the test prompts.
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
    """Compare risk-averse routing with risk-neutral routing.

    ``worst`` is the 5% quantile of the images' qualities, and ``worst_mean`` is the mean quality of
    the images below this quantile (conditional value at risk). ``gain`` and ``worst_gain`` are the
    gains in the mean quality and in ``worst_mean``; ``interval`` and ``worst_interval`` are their
    95% bootstrap intervals, paired over prompts.

    Args:
        images: the scores of the images of risk-averse routing, (n_prompts, n_seeds), NaN where
            missing.
        neutral: the scores of the images of risk-neutral routing, (n_prompts, n_seeds).
        bootstrap: resamples of the prompts.
    """
    quality, neutral_quality = np.nanmean(images, axis=1), np.nanmean(neutral, axis=1)
    once = np.ones((1, len(images)), np.uint8)
    worst_mean = float(worst_means(images, once)[0])
    worst_gains = worst_means(images, bootstrap.counts) - worst_means(neutral, bootstrap.counts)
    return {
        "quality": float(quality.mean()),
        "gain": float((quality - neutral_quality).mean()),
        "interval": bootstrap.interval(quality - neutral_quality),
        "worst": float(np.nanquantile(images, WORST_SHARE)),
        "worst_mean": worst_mean,
        "worst_gain": worst_mean - float(worst_means(neutral, once)[0]),
        "worst_interval": percentile_interval(worst_gains),
        **_seed_variance(images, neutral, bootstrap),
    }


def _seed_variance(images: Floats, neutral: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Return the mean over prompts of the variance over seeds, and its change with an interval.

    Prompts with one seed are left out. All statistics are None if no prompt has two seeds.
    """
    two_seeds = ((~np.isnan(images)).sum(axis=1) > 1) & ((~np.isnan(neutral)).sum(axis=1) > 1)
    if not two_seeds.any():
        return {"seed_variance": None, "seed_variance_gain": None, "seed_variance_interval": None}
    variance, neutral_variance = (
        np.nanvar(np.where(two_seeds[:, None], values, 0.0), axis=1, ddof=1)
        for values in (images, neutral)
    )
    means = bootstrap.means(np.stack([variance - neutral_variance, two_seeds], axis=1))
    means = means[means[:, 1] > 0]
    return {
        "seed_variance": float(variance[two_seeds].mean()),
        "seed_variance_gain": float((variance - neutral_variance)[two_seeds].mean()),
        "seed_variance_interval": percentile_interval(means[:, 0] / means[:, 1]),
    }


def worst_means(images: Floats, counts: NDArray[np.uint8]) -> Floats:
    """Return the mean quality of the worst 5% of the images in each resample of the prompts.

    The image at the boundary of the 5% counts with a fractional weight.

    Args:
        images: the scores of the images, (n_prompts, n_seeds), NaN where missing. Every prompt has
            at least one score.
        counts: the number of times that each resample contains each prompt, (draws, n_prompts).

    Returns:
        The mean qualities, (draws,).
    """
    prompt, seed = np.nonzero(~np.isnan(images))
    order = np.argsort(images[prompt, seed], kind="stable")
    owner, values = prompt[order], images[prompt, seed][order]
    images_of_prompt = np.bincount(prompt, minlength=len(images)).astype(float)
    means = []
    for i in range(0, len(counts), CHUNK_SIZE):
        chunk = counts[i : i + CHUNK_SIZE]
        total = WORST_SHARE * (chunk.astype(float) @ images_of_prompt)[:, None]
        weight = _worst_weights(chunk, owner, total)
        taken = np.clip(total - (np.cumsum(weight, axis=1) - weight), 0, weight)
        means.append(taken @ values[: weight.shape[1]] / total[:, 0])
    return np.concatenate(means)


def _worst_weights(counts: NDArray[np.uint8], owner: Ints, total: Floats) -> Floats:
    """Return the number of times that each resample contains the worst images, (draws, n_worst).

    Only so many of the images are considered that their number in every resample reaches ``total``.

    Args:
        counts: the number of times that each resample contains each prompt, (draws, n_prompts).
        owner: the position of the prompt of each image, from the worst image to the best.
        total: the number of worst images of each resample, (draws, 1).
    """
    n_worst = int(2 * WORST_SHARE * len(owner)) + 1
    weight = counts[:, owner[:n_worst]].astype(float)
    if (weight.sum(axis=1, keepdims=True) < total).any():
        weight = counts[:, owner].astype(float)
    return weight
