"""Statistics of labels, of which some may be missing (NaN)."""

from __future__ import annotations

import numpy as np

from catimage.common.arrays import Floats, Ints

_RELATIVE_TIE = 1e-12
"""Mean labels are tied if their relative difference is smaller than this."""


def complete_rows(labels: Floats) -> Ints:
    """Return the positions of the prompts that have a label for every candidate.

    Only these prompts can be used to evaluate routing methods, because equation 3 of the CATImage
    paper may select any candidate. If the prompts depended on the selected candidates, methods
    would be compared on different prompts.

    Args:
        labels: the labels, (n_prompts, n_candidates), NaN where a label is missing.
    """
    return np.flatnonzero(~np.isnan(labels).any(axis=1))


def mean_labels(labels: Floats) -> Floats:
    """Return the mean label of each candidate over all prompts, adjusted for missing labels.

    If labels are missing, the plain mean of a candidate depends on the prompts for which it has a
    label: a candidate that was scored on easy prompts only would look good. The means returned are
    therefore the candidate effects of the least-squares fit of ``label = prompt + candidate``, plus
    the mean prompt effect. If no label is missing, this is the plain mean.

    Args:
        labels: the labels, (n_prompts, n_candidates), NaN where a label is missing. Every candidate
            must have at least one label; prompts without any label are ignored.

    Returns:
        Mean labels (n_candidates,).
    """
    present = ~np.isnan(labels)
    if present.all():
        means: Floats = labels.mean(axis=0)
        return means
    labels, present = labels[present.any(axis=1)], present[present.any(axis=1)]
    weights, values = present.astype(float), np.where(present, labels, 0.0)
    share = weights / weights.sum(axis=1, keepdims=True)
    normal = np.diag(weights.sum(axis=0)) - weights.T @ share
    effects: Floats = np.linalg.lstsq(
        normal, (values - share * values.sum(axis=1, keepdims=True)).sum(axis=0), rcond=None
    )[0]
    level = float((values.sum(axis=1) / weights.sum(axis=1) - share @ effects).mean())
    return np.asarray(effects + level)


def best_single_candidate(labels: Floats, costs: Floats) -> int:
    """Return the position of the candidate with the best mean label.

    Of tied candidates, the cheapest is returned; if their costs are equal too, the first.

    Args:
        labels: the labels, (n_prompts, n_candidates), NaN where a label is missing.
        costs: the cost of each candidate, (n_candidates,).
    """
    mean = mean_labels(labels)
    tied = np.flatnonzero(mean >= mean.max() - _RELATIVE_TIE * np.abs(mean).max())
    return int(tied[np.argmin(costs[tied])])
