"""Noise of the seeds in the oracle's gain, and the share of the rest that estimators capture.

An oracle that selects each prompt's best candidate by the images that it is measured on exploits
noise: among equal candidates it selects the one whose image turned out well. Measured on images of
other seeds, it keeps only the gain that the prompt determines: the *learnable* gain.
"""

from __future__ import annotations

from itertools import combinations, islice
from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.dataset import mean_over_seeds
from catimage.evaluation.intervals import PairedBootstrap

MAX_SPLITS = 20
"""Ways to split many seeds that are used; each seed is left out at least once."""


def cross_seed_quality(by_seed: Floats, selecting: int) -> Floats:
    """Return the quality of an oracle that selects by some seeds and is measured on the others.

    Each column is one choice of the ``selecting`` seeds. The candidate with the best mean over
    these is selected (the first among ties), and its mean over the other seeds is the value. A
    prompt is NaN if any candidate lacks a score on either side.

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), higher is better, NaN where missing.
        selecting: number of seeds to select by, 1 to n_seeds - 1.

    Returns:
        (n_prompts, n_splits).
    """
    seeds = by_seed.shape[2]
    splits = islice(combinations(range(seeds), selecting), max(MAX_SPLITS, seeds))
    columns = []
    for selected in (np.isin(np.arange(seeds), split) for split in splits):
        selecting_means = mean_over_seeds(by_seed[:, :, selected], complete=False)
        other_means = mean_over_seeds(by_seed[:, :, ~selected], complete=False)
        complete = ~(np.isnan(selecting_means) | np.isnan(other_means)).any(axis=1)
        picked = np.argmax(np.where(np.isnan(selecting_means), -np.inf, selecting_means), axis=1)
        quality = other_means[np.arange(len(other_means)), picked]
        columns.append(np.where(complete, quality, np.nan))
    return np.stack(columns, axis=1)


def oracle_on_other_seeds(by_seed: Floats) -> float | None:
    """Return the quality of an oracle measured on one seed and selecting by all others, in turn.

    With unlimited seeds it is an upper bound for a router that predicts from the prompt alone.

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), NaN where missing.

    Returns:
        The mean, or None if no prompt has two seeds.
    """
    values = cross_seed_quality(by_seed, by_seed.shape[2] - 1)
    return None if np.isnan(values).all() else float(np.nanmean(values))


def noise_document(
    by_seed: Floats, best: int, routed: dict[str, Floats], bootstrap: PairedBootstrap
) -> dict[str, Any] | None:
    """Return ``noise`` of ``metrics.json``; None if fewer than two prompts have two seeds.

    ``oracle_gain`` is the oracle's gain over the best single candidate, measured on the images that
    it selects by. ``learnable_gain`` is measured on other images (all seeds but one select, the
    remaining one measures, in turn). ``learnable_share`` is their ratio and ``noise_share`` the
    rest. ``by_seeds`` gives the learnable gain for every number of selecting seeds: it is a lower
    bound, since few seeds select wrongly more often. ``captured`` has the gain of each estimator's
    held-out policy and its share of the learnable gain.

    Args:
        by_seed: test scores (n_prompts, n_candidates, n_seeds), NaN where missing.
        best: index of the best single candidate.
        routed: by estimator, labels of the candidates that its held-out policy selects,
            (n_prompts,).
        bootstrap: of all test prompts. If prompts are left out, as many draws of the others.
    """
    seeds = by_seed.shape[2]
    if seeds < 2:
        return None
    quality = cross_seed_quality(by_seed, seeds - 1)
    rows = np.flatnonzero(~np.isnan(quality).all(axis=1))
    if len(rows) < 2:
        return None
    if len(rows) < len(by_seed):
        bootstrap = PairedBootstrap(len(rows), len(bootstrap.counts), 0)
    labels = mean_over_seeds(by_seed[rows], complete=False)
    learnable = np.nanmean(quality[rows], axis=1) - labels[:, best]
    return {
        "n_test": len(rows),
        "seeds": seeds,
        **_oracle_figures(labels.max(axis=1) - labels[:, best], learnable, bootstrap),
        "by_seeds": [[n, _learnable_gain(by_seed[rows], best, n)] for n in range(1, seeds)],
        "captured": {
            name: _captured(quality[rows] - labels[:, best], learnable, bootstrap)
            for name, quality in routed.items()
        },
    }


def _oracle_figures(gain: Floats, learnable: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Return gains and shares from the oracle's gain and the learnable gain per prompt, (n,)."""
    return {
        "oracle_gain": float(gain.mean()),
        "oracle_gain_interval": bootstrap.interval(gain),
        "learnable_gain": float(learnable.mean()),
        "learnable_gain_interval": bootstrap.interval(learnable),
        **_ratio("learnable_share", learnable, gain, bootstrap),
        **_ratio("noise_share", gain - learnable, gain, bootstrap),
    }


def _learnable_gain(by_seed: Floats, best: int, selecting: int) -> float | None:
    """Return the mean gain over the best single candidate of selecting by ``selecting`` seeds."""
    means = mean_over_seeds(by_seed, complete=False)
    gains = cross_seed_quality(by_seed, selecting) - means[:, [best]]
    return None if np.isnan(gains).all() else float(np.nanmean(gains))


def _captured(gain: Floats, learnable: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    return {
        "gain": float(gain.mean()),
        "interval": bootstrap.interval(gain),
        **_ratio("share", gain, learnable, bootstrap),
    }


def _ratio(name: str, part: Floats, total: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Return a ratio of means and its interval; both None if the total is not clearly above 0."""
    interval = bootstrap.ratio_interval(part, total)
    return {
        name: None if interval is None else float(part.mean() / total.mean()),
        f"{name}_interval": interval,
    }
