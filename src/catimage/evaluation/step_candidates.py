"""A part of stage evaluate: the candidates that differ in their number of steps alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catimage.data.schema import CANDIDATES, read_table
from catimage.errors import InputError
from catimage.evaluation.methods import Pool
from catimage.params import Params
from catimage.pool.loading import load_pool
from catimage.pool.step_groups import step_groups
from catimage.stages.train import candidates_of
from catimage.workspace import Workspace


@dataclass(frozen=True)
class StepCandidates:
    """The candidates that differ from the reference condition in steps alone, and the others by
    kind.

    Attributes:
        columns: places of the series in the pool's candidates, by ascending steps; ``steps``
            likewise.
        reference: the place of the reference condition in the series.
        others: places of the other candidates, a list for each generator and settings.
    """

    columns: list[int]
    steps: np.ndarray
    reference: int
    others: list[list[int]]


def step_candidates(workspace: Workspace, params: Params, pool: Pool) -> StepCandidates:
    """The series of the pool's reference condition: its generator's candidates with the same
    settings.

    Without a ``reference_condition`` it is the generator with the most candidates, and the
    reference its most steps.

    Raises:
        InputError: steps are not known, as those of imported scores are not, or there are not two
            step numbers.
    """
    table = candidates_of(read_table(workspace.candidates, CANDIDATES, "generate"), pool.unit)
    steps = dict(zip(table.names, table.steps, strict=True))
    file = (
        None if params.imported is not None else load_pool(params.pool, workspace.pools)
    )
    kinds, reference = (
        step_groups(file, dict(zip(table.names, table.generators, strict=True))),
        (file.reference_condition if file else None),
    )
    groups: dict[str, list[int]] = {}
    for column in sorted(
        range(len(pool.candidates)), key=lambda c: steps.get(pool.candidates[c], 0)
    ):
        groups.setdefault(kinds.get(pool.candidates[column], ""), []).append(column)
    kind = (
        kinds[reference]
        if reference in pool.candidates
        else max(groups, key=lambda k: len(groups[k]))
    )
    columns = groups.pop(kind)
    counts = np.array([steps.get(pool.candidates[c], 0) for c in columns])
    if (
        len(columns) < 2
        or counts[0] < 1
        or (np.diff(counts) < 1).any()
        or (np.diff(pool.cost[columns]) < 0).any()
    ):
        raise InputError(
            "evaluate.plateau: the rule needs one generator with two numbers of steps at least, and"
            " costs that rise with them; leave evaluate.plateau.metrics empty for these candidates."
        )
    names = [pool.candidates[c] for c in columns]
    return StepCandidates(
        columns,
        counts,
        names.index(reference) if reference in names else len(names) - 1,
        list(groups.values()),
    )
