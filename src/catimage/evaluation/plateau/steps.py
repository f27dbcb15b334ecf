"""The step series: candidates that differ only in their number of denoising steps.

A *step group* is a group of such candidates. The step series is the step group that contains the
pool's reference condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.data.dataset import Candidates
from catimage.errors import InputError


@dataclass(frozen=True)
class StepSeries:
    """The step series that contains the reference condition, and the other candidates.

    Attributes:
        columns: the positions of the series' candidates among all candidates, in order of ascending
            steps.
        steps: the number of steps of each candidate in the series, (n_steps,).
        reference: the position of the reference condition in the series.
        others: the positions of all other candidates, one list per step group.
    """

    columns: list[int]
    steps: Ints
    reference: int
    others: list[list[int]]


def step_series(
    candidates: Candidates, groups: Mapping[str, str], reference: str | None
) -> StepSeries:
    """Return the step series that contains the reference condition.

    Args:
        candidates: all candidates.
        groups: the step group of each candidate, see :func:`catimage.pool.step_groups.step_groups`.
        reference: the pool's ``reference_condition``. If it is None or not among the candidates,
            the largest step group is used, and its candidate with the most steps is the reference.

    Raises:
        InputError: steps are unknown (as for imported scores), there are fewer than two numbers of
            steps, costs do not rise with them, or a candidate costs nothing.
    """
    names, steps = candidates.names, candidates.steps
    if free := [name for name, cost in zip(names, candidates.costs, strict=True) if not cost > 0]:
        raise InputError(
            f"evaluate.plateau: the quality per cost (equation 8) of {free[0]} is undefined,"
            " because its cost is 0. Leave evaluate.plateau.metrics empty for these candidates."
        )
    by_group: dict[str, list[int]] = {}
    for column in sorted(range(len(names)), key=lambda c: steps[c]):
        by_group.setdefault(groups.get(names[column], ""), []).append(column)
    if reference in names:
        group = groups[str(reference)]
    else:
        group = max(by_group, key=lambda g: len(by_group[g]))
    columns = by_group.pop(group)
    counts = np.array([steps[c] for c in columns])
    _check_series(counts, candidates.costs[columns])
    series = [names[c] for c in columns]
    position = series.index(str(reference)) if reference in series else len(series) - 1
    return StepSeries(columns, counts, position, list(by_group.values()))


def _check_series(steps: Ints, costs: Floats) -> None:
    ascending = (np.diff(steps) >= 1).all() and (np.diff(costs) >= 0).all()
    if len(steps) < 2 or steps[0] < 1 or not ascending:
        raise InputError(
            "evaluate.plateau: the rule needs one generator with at least two numbers of steps, and"
            " costs that rise with the number of steps. Leave evaluate.plateau.metrics empty for"
            " these candidates."
        )


def parse_budget(text: str, costs: Floats) -> float | None:
    """Parse ``evaluate.plateau.budget``.

    Args:
        text: a mean cost, or a percentage of the most expensive candidate's cost such as ``40%``.
        costs: the costs of the series, (n_steps,).

    Returns:
        The mean cost; None for an empty text.

    Raises:
        InputError: ``text`` is neither a number nor a percentage.
    """
    if not text.strip():
        return None
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(
            f"evaluate.plateau.budget: {text!r} is neither a mean cost nor a percentage. Set it to"
            " a number or to a percentage such as '40%'."
        )
    return value / 100 * float(costs.max()) if text.strip().endswith("%") else value
