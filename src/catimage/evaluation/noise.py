"""The share of the oracle's gain that is noise of the seeds, and the share that can be learned.

The oracle selects the candidate with the best score for each prompt. If it selects by the images
that it is measured on, it exploits noise: among equal candidates it selects the one whose
scores have the highest noise. If it is measured on images of other seeds, it keeps only the
*learnable gain*, which the prompt determines.
"""

from __future__ import annotations

from itertools import combinations, islice
from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.intervals import PairedBootstrap

MAX_SPLITS = 20
"""Maximum number of splits of the seeds into two parts; at least one split per seed is used."""


def cross_seed_quality(by_seed: Floats, n_selecting: int) -> Floats:
    """Return the quality of an oracle that selects by some seeds and is measured on the others.

    A split divides the seeds into selecting seeds and measuring seeds. The candidate with the best
    mean score over the selecting seeds is selected, the first one among ties. Its quality is its
    mean score over the measuring seeds.

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), higher is better, NaN where missing.
        n_selecting: the number of selecting seeds, from 1 to n_seeds - 1.

    Returns:
        The qualities, (n_prompts, n_splits). A quality is NaN if a candidate has no score with the
        selecting seeds or none with the measuring seeds.
    """
    seeds = by_seed.shape[2]
    splits = islice(combinations(range(seeds), n_selecting), max(MAX_SPLITS, seeds))
    columns = []
    for is_selecting in (np.isin(np.arange(seeds), split) for split in splits):
        selecting_means = _means(by_seed[:, :, is_selecting])
        other_means = _means(by_seed[:, :, ~is_selecting])
        complete = ~(np.isnan(selecting_means) | np.isnan(other_means)).any(axis=1)
        picked = np.argmax(np.where(np.isnan(selecting_means), -np.inf, selecting_means), axis=1)
        quality = other_means[np.arange(len(other_means)), picked]
        columns.append(np.where(complete, quality, np.nan))
    return np.stack(columns, axis=1)


def oracle_on_other_seeds(by_seed: Floats) -> float | None:
    """Return the quality of an oracle that is measured on one seed and selects by all others.

    It is the mean over prompts and over the choices of the measuring seed. If the number of seeds
    were unlimited, it would be an upper bound for a router that knows only the prompt.

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), NaN where missing.

    Returns:
        The mean quality; None if no prompt has two seeds.
    """
    values = cross_seed_quality(by_seed, by_seed.shape[2] - 1)
    return None if np.isnan(values).all() else float(np.nanmean(values))


def noise_document(
    by_seed: Floats, best: int, routed: dict[str, Floats], bootstrap: PairedBootstrap
) -> dict[str, Any] | None:
    """Return the key ``noise`` of ``metrics.json``; None if fewer than two prompts have two seeds.

    ``oracle_gain`` is the oracle's gain over the best single candidate, measured on the images that
    the oracle selects by. ``learnable_gain`` is its gain if it selects by all seeds but one and is
    measured on that one. ``learnable_share`` is the learnable gain over the oracle's gain, and
    ``noise_share`` is 1 minus this share. ``by_seeds`` has the learnable gain for every number of
    selecting seeds. These gains are lower bounds, because an oracle with few seeds often selects a
    worse candidate. ``captured`` has, for each estimator, the gain of the policy that is selected
    on the validation split, and its share of the learnable gain.

    Args:
        by_seed: scores of the test prompts, (n_prompts, n_candidates, n_seeds), NaN where missing.
        best: the index of the best single candidate.
        routed: by estimator, the labels of the candidates that its policy selects, (n_prompts,).
        bootstrap: resamples of all test prompts, redrawn if prompts with one seed are left out.
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
    labels = _means(by_seed[rows])
    learnable = np.nanmean(quality[rows], axis=1) - labels[:, best]
    return {
        "n_test": len(rows),
        "seeds": seeds,
        **_oracle_statistics(labels.max(axis=1) - labels[:, best], learnable, bootstrap),
        "by_seeds": [[n, _learnable_gain(by_seed[rows], best, n)] for n in range(1, seeds)],
        "captured": {
            name: _captured(quality[rows] - labels[:, best], learnable, bootstrap)
            for name, quality in routed.items()
        },
    }


def _oracle_statistics(
    gain: Floats, learnable: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Return gains and shares from the oracle's gain and the learnable gain per prompt, (n,)."""
    return {
        "oracle_gain": float(gain.mean()),
        "oracle_gain_interval": bootstrap.interval(gain),
        "learnable_gain": float(learnable.mean()),
        "learnable_gain_interval": bootstrap.interval(learnable),
        **_ratio("learnable_share", learnable, gain, bootstrap),
        **_ratio("noise_share", gain - learnable, gain, bootstrap),
    }


def _learnable_gain(by_seed: Floats, best: int, n_selecting: int) -> float | None:
    """Return the learnable gain of an oracle that selects by ``n_selecting`` seeds."""
    means = _means(by_seed)
    gains = cross_seed_quality(by_seed, n_selecting) - means[:, [best]]
    return None if np.isnan(gains).all() else float(np.nanmean(gains))


def _captured(gain: Floats, learnable: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Return the gain of an estimator and its share of the learnable gain."""
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


def _means(by_seed: Floats) -> Floats:
    """Return the means over the seeds, (n_prompts, n_candidates), NaN where there is no score."""
    count = (~np.isnan(by_seed)).sum(axis=2)
    means: Floats = np.nansum(by_seed, axis=2) / np.where(count, count, np.nan)
    return means
