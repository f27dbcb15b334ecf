"""Datasets: prompts and their splits, candidates and their costs, and scores by metric.

A stage reads one :class:`Dataset` at its start and passes it to the functions that it calls. Higher
labels are always better: scores of a metric whose low values are good are negated in this module
and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_refused, read_table
from catimage.data.score_rows import ScoreRows
from catimage.errors import InputError
from catimage.workspace import Workspace


class TablePaths(NamedTuple):
    """The files of a dataset, for messages."""

    prompts: Path = Path("data/prompts.parquet")
    scores: Path = Path("data/scores.parquet")
    candidates: Path = Path("data/candidates.parquet")


WORKSPACE_PATHS = TablePaths()
"""The files of a workspace, relative to it."""


@dataclass(frozen=True)
class Candidates:
    """The candidates of a dataset, in ascending order of cost and then of name.

    Attributes:
        names: the names of the candidates, in the order of the columns of every array of labels or
            predictions.
        costs: the cost of one image of each candidate, (n_candidates,), in ``unit``.
        unit: the unit of the costs, such as ``tflops``.
        generators: the generator of each candidate; empty if unknown.
        steps: the number of denoising steps of each candidate; empty if unknown.
    """

    names: list[str]
    costs: Floats
    unit: str
    generators: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, unit: str, path: Path = WORKSPACE_PATHS.candidates
    ) -> Candidates:
        """Select the candidates that have a cost in ``unit``.

        Args:
            table: a table with the schema ``CANDIDATES``.
            unit: the unit of the costs.
            path: the file of the table, for the message.

        Raises:
            InputError: no candidate has a cost in ``unit``.
        """
        rows = table[table["unit"] == unit].sort_values(["cost", "candidate"])
        if rows.empty:
            units = sorted(table["unit"].unique())
            raise InputError(
                f"{path}: no cost in the unit {unit!r}. Set cost_unit in params.yaml to one of"
                f" {', '.join(units)}."
            )
        return cls(
            rows["candidate"].tolist(),
            rows["cost"].to_numpy(float),
            unit,
            tuple(rows["generator"].astype(str)),
            tuple(int(steps) for steps in rows["steps"]),
        )


@dataclass(frozen=True)
class Dataset:
    """Prompts, candidates and scores of a workspace or of a scores file.

    Attributes:
        prompts: a table with the schema ``PROMPTS``; every array has one row per prompt, in the
            order of this table.
        scores: a table with the schema ``SCORES``; rows of other prompts or candidates are ignored.
        candidates: the candidates; every array has one column per candidate, in their order.
        lower_is_better: the names of the metrics whose low values are good.
        complete: if True, a missing label is an error; otherwise it is NaN.
        paths: the files of the tables.
    """

    prompts: pd.DataFrame
    scores: pd.DataFrame
    candidates: Candidates
    lower_is_better: Collection[str] = field(default_factory=frozenset)
    complete: bool = True
    paths: TablePaths = WORKSPACE_PATHS

    @classmethod
    def read(
        cls,
        workspace: Workspace,
        unit: str,
        lower_is_better: Collection[str] = frozenset(),
        complete: bool = True,
    ) -> Dataset:
        """Read the tables of prompts, scores and candidates of a workspace.

        If a provider refused to generate images, their labels are missing, and prompts without any
        image are omitted.

        Args:
            workspace: the workspace.
            unit: the unit of the costs.
            lower_is_better: the names of the metrics whose low values are good.
            complete: if True, a missing label is an error; otherwise it is NaN.

        Raises:
            InputError: a table is missing or damaged, or no candidate has a cost in ``unit``.
        """
        prompts = read_table(workspace.prompts, PROMPTS, "sample")
        scores = read_table(workspace.scores, SCORES, "label")
        table = read_table(workspace.candidates, CANDIDATES, "generate")
        candidates = Candidates.from_table(table, unit, workspace.candidates)
        paths = TablePaths(workspace.prompts, workspace.scores, workspace.candidates)
        if len(read_refused(workspace.scores, "label")):
            complete = False
            scored = prompts["prompt_id"].isin(scores["prompt_id"].unique())
            prompts = prompts[scored].reset_index(drop=True)
        return cls(prompts, scores, candidates, lower_is_better, complete, paths)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def ids(self) -> list[str]:
        """The ``prompt_id`` of each prompt."""
        return list(self.prompts["prompt_id"])

    @property
    def texts(self) -> NDArray[np.object_]:
        """Text of each prompt, (n_prompts,): the ``X`` of every estimator."""
        return self.prompts["prompt"].to_numpy(object)

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics in the scores table, sorted."""
        return sorted(self.scores["metric"].unique())

    def split(self, *names: str) -> Dataset:
        """Select the prompts of one or more splits.

        Raises:
            InputError: these splits have no prompt.
        """
        subset = self.take(np.flatnonzero(self.prompts["split"].isin(names)))
        if not len(subset):
            raise InputError(
                f"{self.paths.prompts}: no prompt is in the split{'s' * (len(names) > 1)}"
                f" {', '.join(names)}. Add prompts: about 100 are needed."
            )
        return subset

    def take(self, rows: Ints) -> Dataset:
        """Select the prompts at the positions ``rows``, in that order."""
        return replace(self, prompts=self.prompts.iloc[rows].reset_index(drop=True))

    def scored_by(self, metric: str) -> Dataset:
        """Select the prompts that have at least one score by ``metric``."""
        scored = self.scores.loc[self.scores["metric"] == metric, "prompt_id"]
        return self.take(np.flatnonzero(self.prompts["prompt_id"].isin(scored)))

    def with_candidates(self, candidates: Candidates) -> Dataset:
        """Replace the candidates, for example by the candidates that a router was trained on."""
        return replace(self, candidates=candidates)

    def score_rows(self, metric: str) -> ScoreRows:
        """Select the scores by ``metric``, negated if lower is better.

        Raises:
            InputError: no prompt of this dataset has a score by ``metric``.
        """
        rows = ScoreRows.select(
            self.scores, metric, self.ids, self.candidates.names, self.paths.scores
        )
        return rows.negated() if metric in self.lower_is_better else rows

    def labels(self, metric: str) -> Floats:
        """Return the labels: mean scores over the seeds, negated if lower is better.

        See the CATImage paper, section 3.2.

        Returns:
            Labels (n_prompts, n_candidates); NaN where a label is missing and ``complete`` is
            False.

        Raises:
            InputError: no prompt of this dataset has a score by ``metric``, or ``complete`` is True
                and a label is missing.
        """
        return self.score_rows(metric).labels(self.complete)
