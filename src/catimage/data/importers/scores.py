"""Readers of CSV files of scores (``prompt,candidate,seed,metric,value``) and of costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from catimage.data.importers.delimited import read_columns
from catimage.data.importers.imported_file import (
    ImportedFile,
    abbreviated,
    check_unique,
    finite,
    integer,
    non_negative,
    parse_names,
    parse_numbers,
    parse_prompts,
)
from catimage.data.schema import SCORES
from catimage.errors import InputError, nearest

SCORE_COLUMNS = ["prompt", "candidate", "seed", "metric", "value"]
COST_COLUMNS = ["candidate", "cost", "unit"]
VERSION = "imported"
"""The ``version`` of every imported score, because the file does not name the metric's version."""


class ScoresFile(ImportedFile):
    """A file of scores; ``table`` has the schema ``SCORES``."""

    @property
    def scores(self) -> pd.DataFrame:
        """The scores, in the order of the file and in the schema ``SCORES``."""
        return self.table

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics, in the order of their first rows."""
        return list(self.scores["metric"].unique())

    def check_metric(self, metric: str) -> None:
        """Check that the file has scores by ``metric``.

        Raises:
            InputError: the file has no score by ``metric``.
        """
        if metric not in self.metrics:
            raise InputError(
                f"{self.path}: no metric {metric!r}{nearest(metric, self.metrics)}. Use one of the"
                f" metrics of the file: {', '.join(self.metrics)}."
            )

    def select_metric(self, metric: str) -> ScoresFile:
        """Return the scores of one metric, and the prompts that have a score by it.

        Raises:
            InputError: the file has no score by ``metric``.
        """
        self.check_metric(metric)
        kept = (self.scores["metric"] == metric).to_numpy()
        scores = self.scores[kept].reset_index(drop=True)
        scored = self.prompts["prompt_id"].isin(scores["prompt_id"])
        prompts = self.prompts[scored].reset_index(drop=True)
        return ScoresFile(self.path, prompts, scores, self.line_numbers[kept])

    def check_complete(self, metrics: list[str], candidates: list[str]) -> None:
        """Check that every prompt has a score by every metric for every candidate.

        Equation 3 of the CATImage paper compares the labels of all candidates of a prompt.

        Raises:
            InputError: a score is missing; the message names the first missing score, in the order
                of the file.
        """
        ids = pd.Index(self.prompts["prompt_id"])
        for metric in metrics:
            rows = self.scores[self.scores["metric"] == metric]
            scored = np.zeros((len(ids), len(candidates)), bool)
            i = ids.get_indexer(pd.Index(rows["prompt_id"]))
            j = pd.Index(candidates).get_indexer(pd.Index(rows["candidate"]))
            scored[i, j] = True
            if not scored.all():
                first, candidate = np.argwhere(~scored)[0]
                raise self._missing_score(metric, int(first), candidates[candidate])

    def _missing_score(self, metric: str, position: int, candidate: str) -> InputError:
        line = self.first_line("prompt_id", self.prompts["prompt_id"][position])
        prompt = abbreviated(self.prompts["prompt"][position])
        return InputError(
            f"{self.path}: row {line}: the prompt {prompt!r} has no {metric!r} score for the"
            f" candidate {candidate!r}. Add the score, remove the prompt, or allow missing labels"
            " with '--set validate.complete_labels=false'."
        )


def parse_scores(path: Path) -> ScoresFile:
    """Read a CSV file of scores and check each row.

    Raises:
        InputError: the file cannot be read (:func:`read_columns`), a prompt is invalid
            (:func:`catimage.data.prompts.cleaning.clean`), a name is empty, a seed is not an
            integer, a value is not a finite number, or two rows have the same prompt, candidate,
            seed and metric.
    """
    rows = read_columns(path, SCORE_COLUMNS)
    ids, prompts = parse_prompts(rows)
    scores = pd.DataFrame(
        {
            "prompt_id": ids,
            "candidate": parse_names(rows, "candidate"),
            "seed": parse_numbers(rows, "seed", integer, "a whole number"),
            "metric": parse_names(rows, "metric"),
            "version": VERSION,
            "value": parse_numbers(rows, "value", finite, "a finite number"),
        }
    )
    check_unique(path, scores, ["prompt_id", "candidate", "seed", "metric"], rows.line_numbers)
    return ScoresFile(path, prompts, scores[SCORES.names], np.array(rows.line_numbers))


def parse_costs(path: Path) -> pd.DataFrame:
    """Read a CSV file of costs; return the columns ``candidate, cost, unit``.

    Raises:
        InputError: the file cannot be read, a cost is negative or not a finite number, a name is
            empty, or a candidate has two costs in one unit.
    """
    rows = read_columns(path, COST_COLUMNS)
    costs = pd.DataFrame(
        {
            "candidate": parse_names(rows, "candidate"),
            "cost": parse_numbers(rows, "cost", non_negative, "a finite number, zero or more"),
            "unit": parse_names(rows, "unit"),
        }
    )
    check_unique(path, costs, ["candidate", "unit"], rows.line_numbers)
    return costs
