"""Datasets: prompts and their splits, candidates and their costs, and scores by metric.

A stage reads one :class:`Dataset` at its start and passes it to the functions that it calls. Higher
labels are always better: scores of a metric whose low values are good are negated in this module
and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table
from catimage.errors import InputError
from catimage.workspace import Workspace


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
    def from_table(cls, table: pd.DataFrame, unit: str) -> Candidates:
        """Select the candidates that have a cost in ``unit``.

        Args:
            table: a table with the schema ``CANDIDATES``.
            unit: the unit of the costs.

        Raises:
            InputError: no candidate has a cost in ``unit``.
        """
        rows = table[table["unit"] == unit].sort_values(["cost", "candidate"])
        if rows.empty:
            units = sorted(table["unit"].unique())
            raise InputError(
                f"candidates: no cost in the unit {unit!r}. Set cost_unit in params.yaml to one of"
                f" {units}."
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
    """

    prompts: pd.DataFrame
    scores: pd.DataFrame
    candidates: Candidates
    lower_is_better: Collection[str] = field(default_factory=frozenset)
    complete: bool = True

    @classmethod
    def read(
        cls,
        workspace: Workspace,
        unit: str,
        lower_is_better: Collection[str] = frozenset(),
        complete: bool = True,
    ) -> Dataset:
        """Read the tables of prompts, scores and candidates of a workspace.

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
        candidates = Candidates.from_table(table, unit)
        return cls(prompts, scores, candidates, lower_is_better, complete)

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
                f"prompts: the {' and '.join(names)} split is empty. Add prompts: about"
                " 100 are needed."
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

    def seed_scores(self, metric: str) -> Floats:
        """Return the score of every prompt, candidate and seed, negated if lower is better.

        Returns:
            Scores (n_prompts, n_candidates, n_seeds), NaN where a score is missing.

        Raises:
            InputError: no prompt of this dataset has a score by ``metric``.
        """
        values = seed_scores(self.scores, metric, self.ids, self.candidates.names)
        return -values if metric in self.lower_is_better else values

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
        return mean_over_seeds(self.seed_scores(metric), self.complete)


def seed_scores(
    scores: pd.DataFrame, metric: str, prompt_ids: Sequence[str], candidates: Sequence[str]
) -> Floats:
    """Return the scores of one metric as an array, without negating them.

    Args:
        scores: a table with the schema ``SCORES``.
        metric: the name of the metric.
        prompt_ids: the ids of the prompts, one per row of the array.
        candidates: the names of the candidates, one per column of the array.

    Returns:
        Scores (n_prompts, n_candidates, n_seeds) with seeds ascending, NaN where a score is
        missing.

    Raises:
        InputError: the table has no score by ``metric`` for these prompts and candidates.
    """
    prompts, names = pd.Index(prompt_ids), pd.Index(candidates)
    rows = scores[
        (scores["metric"] == metric)
        & scores["prompt_id"].isin(prompts)
        & scores["candidate"].isin(names)
    ]
    if rows.empty:
        metrics = sorted(scores["metric"].unique())
        raise InputError(
            f"scores: no score of the metric {metric!r} for these prompts. Use a metric of the"
            f" table: {metrics}."
        )
    seeds = np.sort(rows["seed"].unique())
    values = np.full((len(prompts), len(names), len(seeds)), np.nan)
    i = prompts.get_indexer(pd.Index(rows["prompt_id"]))
    j = names.get_indexer(pd.Index(rows["candidate"]))
    values[i, j, np.searchsorted(seeds, rows["seed"])] = rows["value"]
    return values


def mean_over_seeds(by_seed: Floats, complete: bool = True) -> Floats:
    """Return the labels: the mean over the seeds of the scores that are present.

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), NaN where a score is missing.
        complete: if True, every prompt must have a score for every candidate; otherwise a missing
            label is NaN.

    Returns:
        Labels (n_prompts, n_candidates).

    Raises:
        InputError: ``complete`` is True and a label is missing.
    """
    count = (~np.isnan(by_seed)).sum(axis=2)
    if complete and not count.all():
        incomplete = int((count == 0).any(axis=1).sum())
        raise InputError(
            f"scores: {incomplete} prompts lack a score for at least one candidate. Run 'catimage"
            " label' again, remove these prompts, or set validate.complete_labels to false."
        )
    labels: Floats = np.nansum(by_seed, axis=2) / np.where(count, count, np.nan)
    return labels
