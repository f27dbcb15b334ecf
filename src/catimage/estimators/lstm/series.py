"""Candidates as series over denoising steps, and labels at every step in between (BudgetFusion
3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints


@dataclass(frozen=True)
class Series:
    """Candidates that differ in their number of steps alone.

    Attributes:
        columns: (k,) their columns among the labels, by ascending steps.
        steps: (k,) their steps, no two alike.
        places: (t,) the steps that are predicted, ascending; ``steps`` are among them.
    """

    columns: Ints
    steps: Ints
    places: Ints

    @property
    def at(self) -> Ints:
        """Where ``steps`` stand in ``places``: (k,)."""
        return np.searchsorted(self.places, self.steps)


def series_of(steps: Ints, generators: NDArray[np.str_], every_step: bool) -> list[Series]:
    """The candidates' series, in the order of their first candidates.

    A generator's candidates are one series. One whose steps an earlier candidate of the generator
    has too (it differs in guidance, sampler or cache, which steps do not tell) goes into the
    generator's next series.

    Args:
        steps: (n_candidates,), 1 or more; ``generators`` likewise.
        every_step: predict all steps from the fewest to the most of a series, not those of its
            candidates alone.
    """
    members: dict[tuple[str, int], list[int]] = {}
    seen: dict[tuple[str, int], int] = {}
    for column, (generator, count) in enumerate(
        zip(generators.tolist(), steps.tolist(), strict=True)
    ):
        occurrence = seen[generator, count] = seen.get((generator, count), -1) + 1
        members.setdefault((generator, occurrence), []).append(column)
    return [_series(np.array(columns), steps, every_step) for columns in members.values()]


def _series(columns: Ints, steps: Ints, every_step: bool) -> Series:
    columns = columns[np.argsort(steps[columns], kind="stable")]
    own = steps[columns]
    return Series(columns, own, np.arange(own[0], own[-1] + 1) if every_step else own)


def targets_of(labels: Floats, series: Series) -> Floats:
    """Labels (n, k) of a series' candidates at all of its ``places``: (n, t).

    Between two candidates that have a label it is linear ("pseudo-ground-truth scores", section
    3.3), also over one that has none. Beyond the first and the last label of a prompt it is NaN.
    """
    if len(series.places) == len(series.steps) and not np.isnan(labels).any():
        return labels
    out = np.full((len(labels), len(series.places)), np.nan)
    patterns, which = np.unique(np.isnan(labels), axis=0, return_inverse=True)
    for p, holes in enumerate(patterns):
        rows, known = np.flatnonzero(which.ravel() == p), np.flatnonzero(~holes)
        if len(known):
            inside = (series.places >= series.steps[known[0]]) & (
                series.places <= series.steps[known[-1]]
            )
            out[np.ix_(rows, inside)] = _between(
                labels[np.ix_(rows, known)], series.steps[known], series.places[inside]
            )
    return out


def _between(labels: Floats, steps: Ints, places: Ints) -> Floats:
    """Linear interpolation of the rows of ``labels`` (n, k) from ``steps`` (k,) to ``places`` (t,),
    which lie within them.
    """
    right = np.searchsorted(steps, places).clip(min(1, len(steps) - 1))
    left = np.maximum(right - 1, 0)
    share = (places - steps[left]) / np.maximum(steps[right] - steps[left], 1)
    mixed: Floats = labels[:, left] * (1 - share) + labels[:, right] * share
    return mixed
