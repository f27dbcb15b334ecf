"""Scores and costs that somebody else measured, as csv: ``prompt,candidate,seed,metric,value`` and
``candidate,cost,unit``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from catimage.data.importers.delimited import read_rows
from catimage.data.importers.rows import (
    ImportedFile,
    cost,
    finite,
    integer,
    read_names,
    read_numbers,
    read_prompts,
    refuse_twice,
    shortened,
)
from catimage.data.schema import SCORES
from catimage.errors import InputError, nearest

SCORE_COLUMNS = ["prompt", "candidate", "seed", "metric", "value"]
COST_COLUMNS = ["candidate", "cost", "unit"]
VERSION = "imported"
"""The version of every imported score: who measured it, and how, is not known here."""


class ScoresFile(ImportedFile):
    """A scores file."""

    @property
    def scores(self) -> pd.DataFrame:
        """The scores table, in the order of the file."""
        return self.table

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in order of appearance."""
        return list(self.scores["metric"].unique())

    def only(self, metric: str) -> ScoresFile:
        """The scores of one metric.

        Raises:
            InputError: the file has none.
        """
        if metric not in self.metrics:
            raise InputError(
                f"{self.path} has no metric {metric!r}{nearest(metric, self.metrics)}; it has"
                f" {', '.join(self.metrics)}."
            )
        kept = (self.scores["metric"] == metric).to_numpy()
        scores = self.scores[kept].reset_index(drop=True)
        prompts = self.prompts[self.prompts["prompt_id"].isin(scores["prompt_id"])].reset_index(
            drop=True
        )
        return ScoresFile(self.path, prompts, scores, self.rows[kept])

    def check_complete(self, metrics: list[str], candidates: list[str]) -> None:
        """Every prompt has a score by each of ``metrics`` for each of ``candidates``: a label is
        needed for every choice (eq. 3).

        Raises:
            InputError: naming the first hole in the order of the file.
        """
        ids = pd.Index(self.prompts["prompt_id"])
        for metric in metrics:
            rows = self.scores[self.scores["metric"] == metric]
            there = np.zeros((len(ids), len(candidates)), bool)
            there[
                ids.get_indexer(pd.Index(rows["prompt_id"])),
                pd.Index(candidates).get_indexer(pd.Index(rows["candidate"])),
            ] = True
            if not there.all():
                i, j = np.argwhere(~there)[0]
                row, prompt = (
                    self.first_row("prompt_id", ids[i]),
                    shortened(self.prompts["prompt"][i]),
                )
                raise InputError(
                    f"{self.path}: row {row}: the prompt {prompt!r} has no {metric!r} score for the"
                    f" candidate {candidates[j]!r}: every prompt needs a score for every candidate,"
                    " so add it, remove the prompt, or set validate.complete_labels=false."
                )


def parse_scores(path: Path) -> ScoresFile:
    """Reads a scores file, and checks each row and that no score is there twice, but not which
    candidates there are.

    Raises:
        InputError: naming the file and the row: see
            :func:`catimage.data.importers.delimited.read_rows` and
            :func:`catimage.data.prompts.cleaning.clean`; a name is empty; a seed is not an integer;
            a value is not a finite number; two rows score the same image by the same metric.
    """
    rows = read_rows(path, SCORE_COLUMNS)
    ids, prompts = read_prompts(rows)
    scores = pd.DataFrame(
        {
            "prompt_id": ids,
            "candidate": read_names(rows, "candidate"),
            "seed": read_numbers(rows, "seed", integer, "a whole number"),
            "metric": read_names(rows, "metric"),
            "version": VERSION,
            "value": read_numbers(rows, "value", finite, "a finite number"),
        }
    )
    refuse_twice(path, scores, ["prompt_id", "candidate", "seed", "metric"], rows.numbers)
    return ScoresFile(path, prompts, scores[SCORES.names], np.array(rows.numbers))


def read_costs_csv(path: Path) -> pd.DataFrame:
    """Costs as the columns ``candidate, cost, unit``, in the order of the file.

    Raises:
        InputError: a cost is negative or not a finite number, a name is empty, or a candidate has
            two costs in one unit.
    """
    rows = read_rows(path, COST_COLUMNS)
    values = read_numbers(rows, "cost", cost, "a finite number, zero or more")
    costs = pd.DataFrame(
        {
            "candidate": read_names(rows, "candidate"),
            "cost": values,
            "unit": read_names(rows, "unit"),
        }
    )
    refuse_twice(path, costs, ["candidate", "unit"], rows.numbers)
    return costs
