"""Switches of the candidate of each prompt as lambda increases: the upper envelopes of equation 3.

For one prompt and one candidate, ``quality - lambda * cost`` is a line in lambda. Equation 3 of the
CATImage paper selects the candidate with the highest line, so the selected candidate changes at the
breakpoints of the upper envelope of the lines.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from catimage.common.arrays import Floats, Ints

_BLOCK = 4096
"""Number of prompts processed together, so that the arrays fit into the processor's cache."""


def switches(predicted: Floats, cost: Floats) -> tuple[Ints, Floats, Ints, Ints, Ints]:
    """Return the candidates selected at lambda = 0, and every switch to another candidate.

    Args:
        predicted: predicted quality, (n_prompts, n_candidates).
        cost: cost of one image, (n_candidates,).

    Returns:
        The selected candidates, (n_prompts,), and four arrays (n_switches,), sorted by lambda:
        the lambda, the position of the prompt, the old and the new candidate of each switch.
    """
    order = np.argsort(cost, kind="stable")
    starts, found = [], [(np.zeros(0), *(np.zeros(0, int) for _ in range(3)))]
    for first in range(0, len(predicted), _BLOCK):
        quality = predicted[first : first + _BLOCK, order]
        choice = np.argmax(quality, axis=1)
        starts.append(order[choice])
        found += [
            (lam, rows + first, order[old], order[new])
            for lam, rows, old, new in _walk_envelopes(quality, cost[order], choice)
        ]
    lam, row, old, new = (np.concatenate(part) for part in zip(*found, strict=True))
    by_lam = np.argsort(lam)  # the order of equal lambdas is irrelevant: they become one point
    return np.concatenate(starts), lam[by_lam], row[by_lam], old[by_lam], new[by_lam]


def _walk_envelopes(
    quality: Floats, cost: Floats, choice: Ints
) -> Iterator[tuple[Floats, Ints, Ints, Ints]]:
    """Follow the upper envelopes of all prompts together, one switch per prompt and iteration.

    Args:
        quality: predicted quality, (n_prompts, n_candidates).
        cost: (n_candidates,), ascending.
        choice: candidate of each prompt at lambda = 0, (n_prompts,).

    Yields:
        The lambdas, the positions of the prompts, the old and the new candidates. The iteration
        ends when every prompt has reached a candidate with the lowest cost.
    """
    saving = cost[:, None] - cost
    cheaper = saving > 0
    saving, not_cheaper = np.where(cheaper, saving, 1.0), np.where(cheaper, 0.0, np.inf)
    rows = np.arange(len(quality))
    while True:
        unfinished = cost[choice] > cost[0]
        rows, choice = rows[unfinished], choice[unfinished]
        if not len(rows):
            return
        lam, successor = _next_switch(quality[rows], choice, saving, not_cheaper)
        yield lam, rows, choice, successor
        choice = successor


def _next_switch(
    quality: Floats, choice: Ints, saving: Floats, not_cheaper: Floats
) -> tuple[Floats, Ints]:
    """Find the smallest lambda at which each prompt switches to a cheaper candidate.

    Args:
        quality: predicted quality, (n_prompts, n_candidates).
        choice: current candidate of each prompt, (n_prompts,).
        saving: ``saving[i, j]`` is the cost of candidate i minus that of candidate j, or 1 if j is
            not cheaper, (n_candidates, n_candidates).
        not_cheaper: infinity where candidate j is not cheaper than candidate i, otherwise 0,
            (n_candidates, n_candidates).

    Returns:
        The lambdas and the new candidates, (n_prompts,) each. Of several candidates with the same
        lambda, the cheapest is the new one.
    """
    every = np.arange(len(quality))
    crossing = quality[every, choice][:, None] - quality
    with np.errstate(over="ignore"):  # a tiny saving is never worth a loss of quality
        crossing /= saving[choice]
    crossing += not_cheaper[choice]
    successor = np.argmin(crossing, axis=1)
    return crossing[every, successor].clip(0), successor
