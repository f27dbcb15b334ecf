"""Does the predictive spread hold, and does routing by it pay? Intervals' coverage, and risk
aversion at the budget.

CATImage names it as a limitation that it "does not explicitly account for uncertainty arising from
different noise variations" (5.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats
from catimage.evaluation.intervals import CHUNK, PairedBootstrap
from catimage.evaluation.methods import Pool
from catimage.evaluation.text import compared
from catimage.routing.calibration import calibrate
from catimage.routing.policy import choose

LEVELS = {"68": 0.994458, "95": 1.959964}
"""Half-widths, in standard deviations, of the intervals of a normal distribution."""
AVERSIONS = (0.0, 0.5, 1.0, 2.0)
TAIL = 0.05
"""The share of the images that are the worst ones."""


@dataclass(frozen=True)
class Beliefs:
    """What is believed of a split's labels: ``predicted``, and the standard deviation ``spread``
    about it, (n, n_candidates) each.
    """

    predicted: Floats
    spread: Floats

    def cautious(self, aversion: float) -> Floats:
        """The lower bound that stands for the quality in equation 3: ``aversion`` standard
        deviations below what is predicted.
        """
        return self.predicted - aversion * self.spread


def uncertainty_document(
    validation: Beliefs,
    test: Beliefs,
    by_seed: Floats,
    pool: Pool,
    budget: float,
    bootstrap: PairedBootstrap,
    seed_share: Floats | None = None,
    own: float = 0.0,
) -> dict[str, Any]:
    """The key ``uncertainty`` of ``metrics.json``.

    Args:
        by_seed: scores of the test split (n_test, n_candidates, n_seeds), higher is better, NaN
            where one is missing; every prompt has one at least for each candidate.
        budget: mean cost that every risk aversion is calibrated to on the validation split.
        bootstrap: of the test prompts.
        seed_share: (n_candidates,), the share of the spread's variance that seeds explain, NaN
            where not known.
        own: the router's own risk aversion, judged beside :data:`AVERSIONS`.
    """
    shares = np.full(len(pool.candidates), np.nan) if seed_share is None else seed_share
    columns = zip(
        pool.candidates,
        (np.nanmean(by_seed, axis=2) - test.predicted).T,
        test.spread.T,
        shares,
        strict=True,
    )
    return {
        "by_candidate": [
            coverage(name, error, spread, bootstrap) | {"seed_share": _finite(share)}
            for name, error, spread, share in columns
        ],
        "risk_aversion": _by_aversion(validation, test, by_seed, pool, budget, bootstrap, own),
    }


def coverage(
    name: str, error: Floats, spread: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """One candidate: its spread beside the error that there was (root mean squares), and how often
    the intervals hold; both (n,).
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


def _by_aversion(
    validation: Beliefs,
    test: Beliefs,
    by_seed: Floats,
    pool: Pool,
    budget: float,
    bootstrap: PairedBootstrap,
    own: float,
) -> list[dict[str, Any]]:
    """A row a risk aversion, the first of which is 0. What the budget leaves is not used up by
    mixing, so that only the rules differ.
    """
    found = {}
    for k in sorted({*AVERSIONS, own}):
        lam = calibrate(validation.cautious(k), pool.cost, budget, mix=False).lam
        found[k] = lam, choose(test.cautious(k), pool.cost, lam)
    rows, neutral = np.arange(len(by_seed)), found[0.0][1]
    return [
        {
            "risk_aversion": k,
            "lambda": lam,
            "cost": float(pool.cost[picks].mean()),
            "changed": float((picks != neutral).mean()),
        }
        | against_neutral(by_seed[rows, picks], by_seed[rows, neutral], bootstrap)
        for k, (lam, picks) in found.items()
    ]


def against_neutral(images: Floats, neutral: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """A risk-averse choice against the neutral one, from the scores of the chosen candidates'
    images, (n, n_seeds) each.

    ``worst`` is the 5%-quantile of the images' quality and ``worst_mean`` the mean of those below
    it (conditional value at risk). Each ``gain`` is over the neutral choice, with the interval of a
    paired bootstrap over prompts.
    """
    quality, before = np.nanmean(images, axis=1), np.nanmean(neutral, axis=1)
    once = np.ones((1, len(images)), np.uint8)
    worst = float(worst_means(images, once)[0])
    return {
        "quality": float(quality.mean()),
        "gain": float((quality - before).mean()),
        "interval": bootstrap.interval(quality - before),
        "worst": float(np.nanquantile(images, TAIL)),
        "worst_mean": worst,
        "worst_gain": worst - float(worst_means(neutral, once)[0]),
        "worst_interval": _interval(
            worst_means(images, bootstrap.counts) - worst_means(neutral, bootstrap.counts)
        ),
        **_seed_variance(images, neutral, bootstrap),
    }


def _seed_variance(images: Floats, neutral: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """``seed_variance``: the mean over prompts of the variance over the chosen candidate's seeds;
    None where no prompt has two.
    """
    two = ((~np.isnan(images)).sum(axis=1) > 1) & ((~np.isnan(neutral)).sum(axis=1) > 1)
    if not two.any():
        return {"seed_variance": None, "seed_variance_gain": None, "seed_variance_interval": None}
    own, before = (
        np.nanvar(np.where(two[:, None], values, 0.0), axis=1, ddof=1)
        for values in (images, neutral)
    )
    means = bootstrap.means(np.stack([own - before, two], axis=1))
    means = means[means[:, 1] > 0]
    return {
        "seed_variance": float(own[two].mean()),
        "seed_variance_gain": float((own - before)[two].mean()),
        "seed_variance_interval": _interval(means[:, 0] / means[:, 1]),
    }


def worst_means(images: Floats, counts: NDArray[np.uint8]) -> Floats:
    """The mean quality of the worst 5% of the images in each resample of the prompts, (draws,); a
    share of an image counts as a share.

    Args:
        images: (n, n_seeds), NaN where there is none; every prompt has one.
        counts: (draws, n), how often each prompt is drawn.
    """
    prompt, seed = np.nonzero(~np.isnan(images))
    order = np.argsort(images[prompt, seed], kind="stable")
    owner, values = prompt[order], images[prompt, seed][order]
    means = []
    for i in range(0, len(counts), CHUNK):
        weight = counts[i : i + CHUNK][:, owner].astype(float)
        wanted = TAIL * weight.sum(axis=1, keepdims=True)
        taken = np.clip(wanted - (np.cumsum(weight, axis=1) - weight), 0, weight)
        means.append(taken @ values / wanted[:, 0])
    return np.concatenate(means)


def _interval(draws: Floats) -> list[float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return [float(low), float(high)]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def sentences(uncertainty: dict[str, Any] | None) -> list[str]:
    """What each risk aversion is worth; nothing where there is no spread."""
    said = []
    for row in uncertainty["risk_aversion"][1:] if uncertainty else []:
        worst = {"gain": row["worst_gain"], "interval": row["worst_interval"]}
        said.append(
            f"A risk aversion of {row['risk_aversion']:g} {compared(row, 'none in mean quality')}; "
            f"and it {compared(worst, 'none in the worst 5% of the images')}."
        )
    return said
