"""Candidates as series over denoising steps, and labels interpolated between the sampled steps
(BudgetFusion 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints


@dataclass(frozen=True)
class Series:
    """Candidates that differ only in their number of denoising steps.

    Attributes:
        columns: (k,) column of each candidate in the labels, by ascending number of steps.
        steps: (k,) number of steps of each candidate, without duplicates.
        predicted_steps: (t,) ascending numbers of steps for which quality is predicted; a superset
            of ``steps``.
    """

    columns: Ints
    steps: Ints
    predicted_steps: Ints

    @property
    def positions(self) -> Ints:
        """The indices of ``steps`` in ``predicted_steps``: (k,)."""
        return np.searchsorted(self.predicted_steps, self.steps)


def split_into_series(steps: Ints, step_groups: NDArray[np.str_], every_step: bool) -> list[Series]:
    """Return the series of the candidates, ordered by their first candidate.

    The candidates of a step group form one series. A candidate with the same number of steps as an
    earlier candidate of its group is placed in the group's next series.

    Args:
        steps: number of denoising steps of each candidate (n_candidates,), at least 1.
        step_groups: group of each candidate (n_candidates,).
        every_step: predict every number of steps between the smallest and the largest of a series,
            not only those of its candidates.
    """
    columns: dict[tuple[str, int], list[int]] = {}
    occurrences: dict[tuple[str, int], int] = {}
    for column, (group, count) in enumerate(zip(step_groups.tolist(), steps.tolist(), strict=True)):
        occurrence = occurrences.get((group, count), 0)
        occurrences[group, count] = occurrence + 1
        columns.setdefault((group, occurrence), []).append(column)
    return [_series(np.array(c), steps, every_step) for c in columns.values()]


def _series(columns: Ints, steps: Ints, every_step: bool) -> Series:
    columns = columns[np.argsort(steps[columns], kind="stable")]
    sampled = steps[columns]
    predicted = np.arange(sampled[0], sampled[-1] + 1) if every_step else sampled
    return Series(columns, sampled, predicted)


def interpolate_labels(labels: Floats, series: Series) -> Floats:
    """Return labels (n, k) of the candidates of a series at all predicted steps: (n, t).

    Labels between two labelled candidates are interpolated linearly ("pseudo-ground-truth scores",
    BudgetFusion 3.3), also across candidates without a label. Before the first and
    after the last label of a prompt, the result is NaN.
    """
    predicted, steps = series.predicted_steps, series.steps
    if len(predicted) == len(steps) and not np.isnan(labels).any():
        return labels
    out = np.full((len(labels), len(predicted)), np.nan)
    patterns, pattern_of_row = np.unique(np.isnan(labels), axis=0, return_inverse=True)
    for i, missing in enumerate(patterns):
        rows, present = np.flatnonzero(pattern_of_row.ravel() == i), np.flatnonzero(~missing)
        if len(present):
            first, last = steps[present[[0, -1]]]
            inside = (predicted >= first) & (predicted <= last)
            out[np.ix_(rows, inside)] = _interpolate(
                labels[np.ix_(rows, present)], steps[present], predicted[inside]
            )
    return out


def _interpolate(labels: Floats, steps: Ints, new_steps: Ints) -> Floats:
    """Interpolate the rows of ``labels`` (n, k) linearly from ``steps`` (k,) to ``new_steps`` (t,),
    which must be within their range.
    """
    right = np.searchsorted(steps, new_steps).clip(min(1, len(steps) - 1))
    left = np.maximum(right - 1, 0)
    fraction = (new_steps - steps[left]) / np.maximum(steps[right] - steps[left], 1)
    interpolated: Floats = labels[:, left] * (1 - fraction) + labels[:, right] * fraction
    return interpolated
