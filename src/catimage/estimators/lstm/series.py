"""Series of candidates over the number of denoising steps, and interpolation of labels
(BudgetFusion paper, section 3.3).

A series consists of candidates that differ only in their number of denoising steps. The numbers of
steps of the candidates are called the sampled steps; labels exist only for them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints


@dataclass(frozen=True)
class Series:
    """A series of candidates that differ only in their number of denoising steps.

    Attributes:
        columns: column of each candidate in the labels, in ascending order of steps, (k,).
        steps: the sampled steps in ascending order, without duplicates, (k,).
        predicted_steps: the numbers of steps for which quality is predicted, in ascending order,
            (t,). They include ``steps``.
    """

    columns: Ints
    steps: Ints
    predicted_steps: Ints

    @property
    def positions(self) -> Ints:
        """The indices of ``steps`` in ``predicted_steps``, (k,)."""
        return np.searchsorted(self.predicted_steps, self.steps)


def split_into_series(steps: Ints, step_groups: NDArray[np.str_], every_step: bool) -> list[Series]:
    """Return the series of the candidates, ordered by their first candidate.

    The candidates of a step group (:mod:`catimage.pool.step_groups`) form one series. If several
    candidates of a group have the same number of steps, the first belongs to the first series of
    the group, the second to a second series, and so on.

    Args:
        steps: number of denoising steps of each candidate (n_candidates,), at least 1.
        step_groups: step group of each candidate (n_candidates,).
        every_step: whether quality is predicted for every number of steps between the smallest and
            the largest of a series, or only for the sampled steps.
    """
    columns: dict[tuple[str, int], list[int]] = {}
    occurrences: dict[tuple[str, int], int] = {}
    for column, (group, count) in enumerate(zip(step_groups.tolist(), steps.tolist(), strict=True)):
        occurrence = occurrences.get((group, count), 0)
        occurrences[group, count] = occurrence + 1
        columns.setdefault((group, occurrence), []).append(column)
    return [_series(np.array(c), steps, every_step) for c in columns.values()]


def _series(columns: Ints, steps: Ints, every_step: bool) -> Series:
    """Return the series of the candidates in ``columns``."""
    columns = columns[np.argsort(steps[columns], kind="stable")]
    sampled = steps[columns]
    predicted = np.arange(sampled[0], sampled[-1] + 1) if every_step else sampled
    return Series(columns, sampled, predicted)


def interpolate_labels(labels: Floats, series: Series) -> Floats:
    """Return labels at all predicted steps of a series, interpolated linearly between the labels of
    the candidates ("pseudo-ground-truth scores", BudgetFusion paper, section 3.3).

    Args:
        labels: labels of the candidates of the series (n, k), NaN if missing.
        series: the series.

    Returns:
        Labels (n, t). A missing label between two labels of the same prompt is interpolated too.
        The result is NaN before the first and after the last label of a prompt.
    """
    predicted, steps = series.predicted_steps, series.steps
    if len(predicted) == len(steps) and not np.isnan(labels).any():
        return labels
    interpolated = np.full((len(labels), len(predicted)), np.nan)
    patterns, pattern_of_row = np.unique(np.isnan(labels), axis=0, return_inverse=True)
    for i, missing in enumerate(patterns):
        rows, present = np.flatnonzero(pattern_of_row.ravel() == i), np.flatnonzero(~missing)
        if len(present):
            first, last = steps[present[[0, -1]]]
            inside = (predicted >= first) & (predicted <= last)
            interpolated[np.ix_(rows, inside)] = _interpolate(
                labels[np.ix_(rows, present)], steps[present], predicted[inside]
            )
    return interpolated


def _interpolate(labels: Floats, steps: Ints, new_steps: Ints) -> Floats:
    """Return labels (n, t) at ``new_steps`` (t,), interpolated linearly between labels (n, k) at
    ``steps`` (k,). The new steps must be within the range of ``steps``.
    """
    right = np.searchsorted(steps, new_steps).clip(min(1, len(steps) - 1))
    left = np.maximum(right - 1, 0)
    fraction = (new_steps - steps[left]) / np.maximum(steps[right] - steps[left], 1)
    interpolated: Floats = labels[:, left] * (1 - fraction) + labels[:, right] * fraction
    return interpolated
