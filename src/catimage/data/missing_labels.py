"""Labels with holes: which prompts a method can be judged on, and what each candidate is worth all
the same.
"""

from __future__ import annotations

import numpy as np

from catimage.common.arrays import Floats, Ints


def whole_rows(labels: Floats) -> Ints:
    """The prompts that have a label for every candidate; ``labels`` is (n_prompts, n_candidates),
    NaN where one is missing.

    Equation 3 may pick any candidate, so that a prompt with a hole cannot be judged: to judge it
    where the pick happens to have a label would compare methods on different prompts.
    """
    return np.flatnonzero(~np.isnan(labels).any(axis=1))


def mean_labels(labels: Floats) -> Floats:
    """The mean label of each candidate, (n_candidates,), as if every prompt had been labelled.

    Without holes it is the mean. With holes a candidate's own mean would depend on which prompts it
    happens to have a label for: a candidate that was tried on easy prompts would look good. So it
    is the candidate's effect in the least-squares fit of ``label = prompt + candidate``, on the
    level of all prompts.

    Args:
        labels: (n_prompts, n_candidates), NaN where missing; every candidate and prompt has one at
            least.
    """
    there = ~np.isnan(labels)
    if there.all():
        means: Floats = labels.mean(axis=0)
        return means
    labels, there = labels[there.any(axis=1)], there[there.any(axis=1)]
    seen, values = there.astype(float), np.where(there, labels, 0.0)
    share = seen / seen.sum(axis=1, keepdims=True)
    normal = np.diag(seen.sum(axis=0)) - seen.T @ share
    effects: Floats = np.linalg.lstsq(
        normal, (values - share * values.sum(axis=1, keepdims=True)).sum(axis=0), rcond=None
    )[0]
    level = float((values.sum(axis=1) / seen.sum(axis=1) - share @ effects).mean())
    return np.asarray(effects + level)


def best_of(labels: Floats, cost: Floats) -> int:
    """The candidate with the best mean label; a tie goes to the cheaper, then the first. Labels (n,
    m) with or without holes, cost (m,).
    """
    mean = mean_labels(labels)
    tied = np.flatnonzero(mean >= mean.max() - 1e-12 * np.abs(mean).max())
    return int(tied[np.argmin(cost[tied])])
