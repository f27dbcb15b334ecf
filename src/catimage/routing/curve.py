"""The exact deferral curve (CATImage 3.3).

For one prompt, ``quality - lambda * cost`` is a line in lambda for each candidate, and equation 3
selects the highest line. The selection changes only at breakpoints of this upper envelope.
:func:`deferral_curve` follows the envelope of every prompt from lambda = 0 upwards and sorts the
breakpoints of all prompts. The result has every point of the curve; no grid of lambdas is needed.

This is exact, and faster than a grid: 100,000 prompts and 20 candidates take 0.15 s, a grid of
1,000 lambdas takes 36 s (``make bench``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.routing.policy import check_shapes

_TOLERANCE = 1e-9
"""Relative distance below which two lambdas are equal."""
_BLOCK = 4096
"""Number of prompts processed together, so that the arrays fit into the processor's cache."""


@dataclass(frozen=True)
class DeferralCurve:
    """Mean cost and mean quality as functions of lambda.

    Point ``i`` applies to every lambda in ``[lam[i], lam[i + 1])``.

    Attributes:
        lam: lambdas, (n_points,), ascending from 0.
        cost: mean cost, (n_points,), descending.
        quality: mean quality, (n_points,).
    """

    lam: Floats
    cost: Floats
    quality: Floats

    def __len__(self) -> int:
        return len(self.lam)

    def mean_quality(self, low: float, high: float, linear: bool = False) -> float:
        """Return the mean over budgets from ``low`` to ``high`` of the best quality within the
        budget.

        The integral is exact. If ``low`` equals ``high``, the best quality at that cost is
        returned.

        Args:
            low: smallest budget; the curve must have a point within it (with ``linear``, ``low``
                must be the least cost of the curve).
            high: largest budget.
            linear: if True, points are connected by straight lines (a concave curve, constant
                beyond its best point); otherwise the curve is a step function.
        """
        if not high > low:  # a mean of equal costs may differ from them by rounding
            return float(self.quality[self.cost <= high * (1 + 1e-12)].max())
        rows = np.argsort(self.cost, kind="stable")
        best = np.maximum.accumulate(self.quality[rows])
        edges = np.append(np.clip(self.cost[rows], low, high), high)
        area = (
            np.trapezoid(np.append(best, best[-1]), edges)
            if linear
            else (np.diff(edges) * best).sum()
        )
        return float(area / (high - low))

    def thinned(self, max_points: int, keep: Ints | None = None) -> DeferralCurve:
        """Return at most ``max_points`` points, evenly spaced in cost.

        The first, the last and the best point and the positions in ``keep`` are always included.
        """
        if len(self) <= max_points:
            return self
        ends_and_best = np.array([0, len(self) - 1, int(np.argmax(self.quality))])
        kept = np.unique(ends_and_best if keep is None else np.concatenate([ends_and_best, keep]))
        targets = np.linspace(self.cost[0], self.cost[-1], max_points - len(kept))
        even = np.searchsorted(-self.cost, -targets).clip(0, len(self) - 1)
        rows = np.unique(np.concatenate([kept, even]))
        return DeferralCurve(self.lam[rows], self.cost[rows], self.quality[rows])


def deferral_curve(predicted: Floats, cost: Floats, actual: Floats | None = None) -> DeferralCurve:
    """Compute the deferral curve of routing by ``predicted``, with its quality from ``actual``.

    Args:
        predicted: predicted quality, (n_prompts, n_candidates).
        cost: (n_candidates,).
        actual: labels, (n_prompts, n_candidates); ``predicted`` by default. A prompt with a missing
            label (NaN) contributes to the mean cost only.

    Raises:
        ValueError: shapes differ, there is no prompt, a value is not finite, or no prompt has all
            of its labels.
    """
    check_shapes(predicted, cost)
    if not len(predicted):
        raise ValueError("a curve needs at least one prompt")
    n = len(predicted)
    labels, n_labelled = (predicted, n) if actual is None else _labelled(actual, predicted.shape)
    start, lam, row, old, new = _switches(predicted, cost)
    saved = np.cumsum(cost[new] - cost[old])
    gained = np.cumsum(labels[row, new] - labels[row, old])
    lam = np.concatenate([[0.0], lam])
    costs = cost[start].mean() + np.concatenate([[0.0], saved]) / n
    first_quality = labels[np.arange(n), start].sum()
    quality = (first_quality + np.concatenate([[0.0], gained])) / n_labelled
    # Switches at equal lambdas, up to rounding, are one point.
    last = np.append(lam[1:] > lam[:-1] * (1 + 2 * _TOLERANCE), True)
    return DeferralCurve(lam[last], costs[last], quality[last])


def _labelled(actual: Floats, shape: tuple[int, ...]) -> tuple[Floats, int]:
    """Set the labels of incomplete prompts to 0, and count the complete prompts."""
    if actual.shape != shape:
        raise ValueError(
            f"predicted and actual must have the same shape, not {shape} and {actual.shape}"
        )
    incomplete = np.flatnonzero(np.isnan(actual).any(axis=1))
    if np.isinf(actual).any() or len(incomplete) == len(actual):
        raise ValueError(
            "actual must be finite, and at least one prompt must have all of its labels"
        )
    if len(incomplete):
        actual = actual.copy()
        actual[incomplete] = 0.0
    return actual, len(actual) - len(incomplete)


def _switches(predicted: Floats, cost: Floats) -> tuple[Ints, Floats, Ints, Ints, Ints]:
    """Return the choices at lambda = 0, and all switches sorted by lambda.

    A switch is a lambda, a row, the old and the new candidate.
    """
    order = np.argsort(cost, kind="stable")
    starts, switches = [], [(np.zeros(0), *(np.zeros(0, int) for _ in range(3)))]
    for first in range(0, len(predicted), _BLOCK):
        value = predicted[first : first + _BLOCK, order]
        choice = np.argmax(value, axis=1)
        starts.append(order[choice])
        switches += [
            (lam, rows + first, order[old], order[new])
            for lam, rows, old, new in _walk_envelopes(value, cost[order], choice)
        ]
    lam, row, old, new = (np.concatenate(part) for part in zip(*switches, strict=True))
    by_lam = np.argsort(lam)  # the order of equal lambdas is irrelevant: they become one point
    return np.concatenate(starts), lam[by_lam], row[by_lam], old[by_lam], new[by_lam]


def _walk_envelopes(
    value: Floats, price: Floats, choice: Ints
) -> Iterator[tuple[Floats, Ints, Ints, Ints]]:
    """Follow the envelopes of all rows together, one switch per row and iteration.

    Args:
        value: quality, (n_rows, n_candidates).
        price: costs, (n_candidates,), ascending.
        choice: candidate of each row at lambda = 0.

    Yields:
        Lambdas, rows, old and new candidates, until every row is at the lowest price.
    """
    saving = price[:, None] - price
    cheaper = saving > 0
    saving, never = np.where(cheaper, saving, 1.0), np.where(cheaper, 0.0, np.inf)
    rows = np.arange(len(value))
    while True:
        unfinished = price[choice] > price[0]
        rows, choice = rows[unfinished], choice[unfinished]
        if not len(rows):
            return
        lam, successor = _next_switch(value[rows], choice, saving, never)
        yield lam, rows, choice, successor
        choice = successor


def _next_switch(value: Floats, choice: Ints, saving: Floats, never: Floats) -> tuple[Floats, Ints]:
    """Find the lambda at which each row's line is first crossed by a cheaper candidate's line.

    Args:
        value: quality, (n_rows, n_candidates).
        choice: current candidate of each row.
        saving: what the column's candidate saves compared with the row's, (n_candidates,
            n_candidates).
        never: infinite where nothing is saved, otherwise 0; same shape.

    Returns:
        The lambdas, and the candidates that are selected next: the cheapest of several.
    """
    every = np.arange(len(value))
    slope = value[every, choice][:, None] - value
    slope /= saving[choice]
    slope += never[choice]
    successor = np.argmin(slope, axis=1)
    return slope[every, successor].clip(0), successor


def safe_lambda(curve: DeferralCurve, i: int) -> float:
    """Return a lambda just inside segment ``i`` of a curve.

    At the breakpoint, rounding could make :func:`~catimage.routing.policy.choose` select the
    neighbouring segment's candidate.
    """
    low = float(curve.lam[i])
    inside = low * (1 + _TOLERANCE)
    return inside if i + 1 == len(curve) else min(inside, (low + float(curve.lam[i + 1])) / 2)
