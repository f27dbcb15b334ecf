"""Candidates that differ only in their number of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.data.dataset import Candidates
from catimage.errors import InputError


@dataclass(frozen=True)
class StepSeries:
    """The step series of the reference condition, and the other candidates.

    Attributes:
        columns: positions of the series in the candidates, by ascending steps.
        steps: number of steps of each, (n_steps,).
        reference: position of the reference condition in the series.
        others: positions of the other candidates, one list per step group.
    """

    columns: list[int]
    steps: Ints
    reference: int
    others: list[list[int]]


def step_series(
    candidates: Candidates, groups: Mapping[str, str], reference: str | None
) -> StepSeries:
    """Return the candidates of the reference condition's step group, by ascending steps.

    Args:
        candidates: all candidates.
        groups: step group of each candidate, see :func:`catimage.pool.step_groups.step_groups`.
        reference: the pool's ``reference_condition``. Without one, the largest group is used, and
            its candidate with the most steps is the reference.

    Raises:
        InputError: steps are unknown (as for imported scores), there are fewer than two numbers of
            steps, or costs do not rise with them.
    """
    names, steps = candidates.names, candidates.steps
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
    place = series.index(str(reference)) if reference in series else len(series) - 1
    return StepSeries(columns, counts, place, list(by_group.values()))


def _check_series(steps: Ints, costs: Floats) -> None:
    ascending = (np.diff(steps) >= 1).all() and (np.diff(costs) >= 0).all()
    if len(steps) < 2 or steps[0] < 1 or not ascending:
        raise InputError(
            "evaluate.plateau: the rule needs one generator with two numbers of steps or more, and"
            " costs that rise with them. Leave evaluate.plateau.metrics empty for these candidates."
        )


def parse_budget(text: str, costs: Floats) -> float | None:
    """Parse ``evaluate.plateau.budget``.

    Args:
        text: a mean cost, or a percentage of the most expensive candidate's cost such as ``40%``.
        costs: of the series, (n_steps,).

    Returns:
        The mean cost; None for an empty text.

    Raises:
        InputError: ``text`` is neither.
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
