"""The exact deferral curve (CATImage 3.3).

For a prompt, ``quality - lambda * cost`` is a line in lambda for each candidate, and the rule
follows their upper envelope: the choice changes only where the winning line changes. Walking every
prompt's envelope from lambda = 0 up gives all breakpoints, and sorting those gives the curve, with
no grid of lambdas and nothing missed between its points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.routing.policy import check_shapes

_TOLERANCE = 1e-9
_BLOCK = 4096
"""Prompts walked at once: what fits the processor's cache."""


@dataclass(frozen=True)
class Curve:
    """A deferral curve: point ``i`` is what the rule gives for lambda in ``[lam[i], lam[i + 1])``.

    Attributes:
        lam: (k,) ascending from 0.
        cost: (k,) mean cost, descending.
        quality: (k,) mean quality.
    """

    lam: Floats
    cost: Floats
    quality: Floats

    def __len__(self) -> int:
        return len(self.lam)

    def mean_quality(self, low: float, high: float, linear: bool = False) -> float:
        """The mean over cost from ``low`` to ``high`` of the best quality at no more than that
        cost: an exact integral.

        Args:
            low: a cost that the curve reaches, if it is ``linear`` its least; where it equals
                ``high``, the best quality there is returned.
            linear: the curve is a concave line, and beyond its best point level; otherwise it has
                steps.
        """
        if not high > low:  # a mean of equal costs may differ from them in the last digit
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

    def thinned(self, most: int, keep: Ints | None = None) -> Curve:
        """At most ``most`` points, evenly spaced in cost: the ends, the best point and the rows in
        ``keep`` always stay.
        """
        if len(self) <= most:
            return self
        ends_and_best = np.array([0, len(self) - 1, int(np.argmax(self.quality))])
        must = np.unique(ends_and_best if keep is None else np.concatenate([ends_and_best, keep]))
        targets = np.linspace(self.cost[0], self.cost[-1], most - len(must))
        even = np.searchsorted(-self.cost, -targets).clip(0, len(self) - 1)
        rows = np.unique(np.concatenate([must, even]))
        return Curve(self.lam[rows], self.cost[rows], self.quality[rows])


def deferral_curve(predicted: Floats, cost: Floats, actual: Floats | None = None) -> Curve:
    """The curve of the rule that routes by ``predicted``, with its quality read from ``actual``.

    Args:
        predicted: (n_prompts, n_candidates) expected quality; ``cost`` (n_candidates,).
        actual: (n_prompts, n_candidates) labels; ``predicted`` itself where left out. A prompt that
            lacks a label (NaN) counts for the cost alone.

    Raises:
        ValueError: shapes differ, no prompt, a value is not finite, or no prompt has all of its
            labels.
    """
    check_shapes(predicted, cost)
    if not len(predicted):
        raise ValueError("a curve needs a prompt at least")
    actual, whole = (
        (predicted, len(predicted)) if actual is None else _whole(actual, predicted.shape)
    )
    start, lam, row, old, new = _switches(predicted, cost)
    n, every = len(predicted), np.arange(len(predicted))
    saved = np.cumsum(cost[new] - cost[old])
    gained = np.cumsum(actual[row, new] - actual[row, old])
    lam = np.concatenate([[0.0], lam])
    costs = cost[start].mean() + np.concatenate([[0.0], saved]) / n
    quality = (actual[every, start].sum() + np.concatenate([[0.0], gained])) / whole
    last = np.append(
        lam[1:] > lam[:-1] * (1 + 2 * _TOLERANCE), True
    )  # switches at one lambda, but for rounding, make one point
    return Curve(lam[last], costs[last], quality[last])


def _whole(actual: Floats, shape: tuple[int, ...]) -> tuple[Floats, int]:
    """Labels with those of prompts that lack one as 0, and how many prompts lack none."""
    if actual.shape != shape:
        raise ValueError(
            f"predicted and actual must be of one shape, not {shape} and {actual.shape}"
        )
    lacking = np.flatnonzero(np.isnan(actual).any(axis=1))
    if np.isinf(actual).any() or len(lacking) == len(actual):
        raise ValueError(
            "actual must be finite, and at least one prompt must have all of its labels"
        )
    if len(lacking):
        actual = actual.copy()
        actual[lacking] = 0.0
    return actual, len(actual) - len(lacking)


def _switches(predicted: Floats, cost: Floats) -> tuple[Ints, Floats, Ints, Ints, Ints]:
    """The choices at lambda = 0, and every later switch (lambda, row, old, new), by ascending
    lambda.
    """
    order = np.argsort(cost, kind="stable")
    starts, found = [], [(np.zeros(0), *(np.zeros(0, int) for _ in range(3)))]
    for first in range(0, len(predicted), _BLOCK):
        value = predicted[first : first + _BLOCK, order]
        choice = np.argmax(value, axis=1)
        starts.append(order[choice])
        found += [
            (lam, rows + first, order[old], order[new])
            for lam, rows, old, new in _walk(value, cost[order], choice)
        ]
    lam, row, old, new = (np.concatenate(part) for part in zip(*found, strict=True))
    by_lam = np.argsort(
        lam
    )  # in which order those of one lambda come is all the same: they make one point
    return np.concatenate(starts), lam[by_lam], row[by_lam], old[by_lam], new[by_lam]


def _walk(value: Floats, price: Floats, choice: Ints) -> Iterator[tuple[Floats, Ints, Ints, Ints]]:
    """Down every row's envelope at once, a switch a round, until all rows are at the cheapest
    price.
    """
    saving = price[:, None] - price
    cheaper = saving > 0
    saving, never = np.where(cheaper, saving, 1.0), np.where(cheaper, 0.0, np.inf)
    rows = np.arange(len(value))
    while True:
        going = price[choice] > price[0]
        rows, choice = rows[going], choice[going]
        if not len(rows):
            return
        lam, successor = _next_switch(value[rows], choice, saving, never)
        yield lam, rows, choice, successor
        choice = successor


def _next_switch(value: Floats, choice: Ints, saving: Floats, never: Floats) -> tuple[Floats, Ints]:
    """Where each row's present line is first overtaken by a cheaper one, and by which (the cheapest
    of several).

    Args:
        saving: (m, m), what the column's candidate saves over the row's; ``never`` is infinite
            where it saves nothing, else 0.
    """
    every = np.arange(len(value))
    slope = value[every, choice][:, None] - value
    slope /= saving[choice]
    slope += never[choice]
    successor = np.argmin(slope, axis=1)
    return slope[every, successor].clip(0), successor


def safe_lambda(curve: Curve, i: int) -> float:
    """A lambda just inside segment ``i``, so that rounding cannot give
    :func:`~catimage.routing.policy.choose` the neighbour's choice.
    """
    low = float(curve.lam[i])
    inside = low * (1 + _TOLERANCE)
    return inside if i + 1 == len(curve) else min(inside, (low + float(curve.lam[i + 1])) / 2)
