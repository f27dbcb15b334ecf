"""How much of the oracle's gain is luck of the seeds, and how much of the rest the estimators
capture.

An oracle that picks each prompt's best candidate by the very images that it is judged on gains from
luck: of equal candidates it takes the one whose image came out well. Judged on images that it has
not seen, only what the prompt determines is left: the *learnable* gain.
"""

from __future__ import annotations

from itertools import combinations, islice
from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.intervals import PairedBootstrap

MOST_WAYS = 20
"""Ways to part many seeds that are looked at; each seed is left out once all the same."""


def crossed(by_seed: Floats, picking: int) -> Floats:
    """What an oracle is worth that picks by some seeds and is judged on the others: (n_prompts,
    n_ways), NaN where it cannot be told.

    Each column is one way to choose the ``picking`` seeds. The candidate with the best mean over
    these is taken, and its mean over the other seeds is its worth; a tie goes to the first. A
    prompt whose candidates do not all have a score on both sides is NaN.

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), higher is better, NaN where missing.
        picking: 1 to n_seeds - 1.
    """
    seeds = by_seed.shape[2]
    ways = [
        np.isin(np.arange(seeds), way)
        for way in islice(combinations(range(seeds), picking), max(MOST_WAYS, seeds))
    ]
    columns = []
    for seen in ways:
        known, held = _means(by_seed[:, :, seen]), _means(by_seed[:, :, ~seen])
        there = ~(np.isnan(known) | np.isnan(held)).any(axis=1)
        picked = np.argmax(np.where(np.isnan(known), -np.inf, known), axis=1)
        columns.append(np.where(there, held[np.arange(len(held)), picked], np.nan))
    return np.stack(columns, axis=1)


def _means(by_seed: Floats) -> Floats:
    """Means (n_prompts, n_candidates) over the seeds that are there; NaN where there is none."""
    count = (~np.isnan(by_seed)).sum(axis=2)
    means: Floats = np.nansum(by_seed, axis=2) / np.where(count, count, np.nan)
    return means


def oracle_on_other_seeds(by_seed: Floats) -> float | None:
    """What an oracle is worth that has seen all seeds but the one that it is judged on, each in
    turn; None without a second seed.

    A router that predicts from the prompt alone cannot hope for more than an oracle with endless
    seeds would reach this way.

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), NaN where missing.
    """
    values = crossed(by_seed, by_seed.shape[2] - 1)
    return None if np.isnan(values).all() else float(np.nanmean(values))


def noise_document(
    by_seed: Floats, single: int, routed: dict[str, Floats], bootstrap: PairedBootstrap
) -> dict[str, Any] | None:
    """``noise`` of ``metrics.json``; None where fewer than two prompts have two seeds or more.

    ``oracle_gain`` is the oracle's over the best single candidate where both are judged on the
    images that the oracle picks by; ``learnable_gain`` is what is left of it on other images (all
    seeds but one pick, that one judges, in turn). Their ratio is ``learnable_share``;
    ``noise_share`` is the rest. An oracle that picks by few seeds errs more than one with many
    would, so that the learnable gain is a lower bound of what the prompt determines: ``by_seeds``
    has it for every number of seeds that pick. ``captured`` has, for each estimator, the gain of
    its honest choice and its share of the learnable gain.

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds) on test, higher is better, NaN where
            missing.
        single: index of the best single candidate.
        routed: by estimator, the label (n_prompts,) of what its honest choice picks (lambda chosen
            on the validation split).
        bootstrap: over all test prompts; where some are left out, as many draws of the others.
    """
    seeds = by_seed.shape[2]
    if seeds < 2:
        return None
    ways = crossed(by_seed, seeds - 1)
    rows = np.flatnonzero(~np.isnan(ways).all(axis=1))
    if len(rows) < 2:
        return None
    if len(rows) < len(by_seed):
        bootstrap = PairedBootstrap(len(rows), len(bootstrap.counts), 0)
    labels = _means(by_seed[rows])
    gain = labels.max(axis=1) - labels[:, single]
    learnable = np.nanmean(ways[rows], axis=1) - labels[:, single]
    return {
        "n_test": len(rows),
        "seeds": seeds,
        "oracle_gain": float(gain.mean()),
        "oracle_gain_interval": bootstrap.interval(gain),
        "learnable_gain": float(learnable.mean()),
        "learnable_gain_interval": bootstrap.interval(learnable),
        **_share("learnable_share", learnable, gain, bootstrap),
        **_share("noise_share", gain - learnable, gain, bootstrap),
        "by_seeds": [
            [picking, _gain_by(by_seed[rows], single, picking)] for picking in range(1, seeds)
        ],
        "captured": {
            name: _captured(quality[rows] - labels[:, single], learnable, bootstrap)
            for name, quality in routed.items()
        },
    }


def _gain_by(by_seed: Floats, single: int, picking: int) -> float | None:
    """The mean gain over the single candidate of picking by ``picking`` seeds, on the others."""
    gains = crossed(by_seed, picking) - _means(by_seed)[:, [single]]
    return None if np.isnan(gains).all() else float(np.nanmean(gains))


def _captured(gain: Floats, learnable: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    return {
        "gain": float(gain.mean()),
        "interval": bootstrap.interval(gain),
        **_share("share", gain, learnable, bootstrap),
    }


def _share(name: str, part: Floats, whole: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """A ratio of means with its interval; both None where the whole is not clearly above 0."""
    interval = bootstrap.ratio_interval(part, whole)
    return {
        name: None if interval is None else float(part.mean() / whole.mean()),
        f"{name}_interval": interval,
    }
