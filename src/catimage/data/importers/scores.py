"""Files of scores: one score per row, or one column per candidate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.common.names import check_name
from catimage.data.importers.columns import abbreviated
from catimage.data.importers.imported_file import ImportedFile, check_unique
from catimage.data.importers.score_shapes import (
    DEFAULT_METRIC,
    is_long,
    long_scores,
    wide_scores,
)
from catimage.data.importers.spellings import merge_spellings
from catimage.data.importers.tables import read_user_table
from catimage.data.importers.text_table import TextTable
from catimage.data.schema import SCORES
from catimage.errors import InputError, nearest

VERSION = "imported"
"""The ``version`` of every imported score, because the file does not name the metric's version."""
_COSTS = "Costs are read from the file of the option --costs only"
IGNORED = {
    **dict.fromkeys(("cost", "costs", "price", "unit", "seconds", "latency", "usd"), _COSTS),
    "split": "The split of a prompt is determined by the hash of its text",
    "weight": "Every score has the same weight",
}
"""Columns that a user may expect to be read, and what applies instead."""
_REPEATS = ", or remove the column 'seed' if they are repeated ratings: they are then numbered"


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
        return ScoresFile(self.path, prompts, scores, self.row_numbers[kept], self.notes)

    def labelled(self, metric: str, candidates: list[str]) -> np.ndarray:
        """Return whether each prompt has a score of each candidate, (n_prompts, n_candidates)."""
        ids = pd.Index(self.prompts["prompt_id"])
        rows = self.scores[self.scores["metric"] == metric]
        scored = np.zeros((len(ids), len(candidates)), bool)
        i = ids.get_indexer(pd.Index(rows["prompt_id"]))
        j = pd.Index(candidates).get_indexer(pd.Index(rows["candidate"]))
        scored[i[j >= 0], j[j >= 0]] = True
        return scored

    def check_complete(self, metrics: list[str], candidates: list[str]) -> None:
        """Check that every prompt has a score by every metric for every candidate.

        Equation 3 of the CATImage paper compares the labels of all candidates of a prompt.

        Raises:
            InputError: a score is missing; the message names the first missing score, in the order
                of the file.
        """
        for metric in metrics:
            scored = self.labelled(metric, candidates)
            if not scored.all():
                first, candidate = np.argwhere(~scored)[0]
                raise self._missing_score(metric, int(first), candidates[candidate])

    def check_comparable(self, metrics: list[str]) -> None:
        """Check that at least one prompt has a score of every candidate.

        Estimators accept missing labels, but routers are calibrated and evaluated on prompts
        without missing labels.

        Raises:
            InputError: no prompt has a score by one of the metrics for every candidate.
        """
        for metric in metrics:
            if not self.labelled(metric, self.candidates).all(axis=1).any():
                raise InputError(
                    f"{self.path}: no prompt has a {metric!r} score of every candidate, and the"
                    " stages calibrate and evaluate compare candidates on such prompts. Add the"
                    " missing scores of about 100 prompts, or import fewer candidates."
                )

    def _missing_score(self, metric: str, position: int, candidate: str) -> InputError:
        row = self.first_row("prompt_id", self.prompts["prompt_id"][position])
        prompt = abbreviated(self.prompts["prompt"][position])
        return InputError(
            f"{self.path}: row {row}: the prompt {prompt!r} has no {metric!r} score for the"
            f" candidate {candidate!r}. Add the score, remove the prompt, or allow missing labels"
            " with '--set validate.complete_labels=false'."
        )


def parse_scores(
    path: Path,
    metric: str | None = None,
    candidates: Sequence[str] | None = None,
    known: pd.DataFrame | None = None,
) -> ScoresFile:
    """Read a file of scores and check each row.

    The file has one score per row (:func:`~catimage.data.importers.score_shapes.long_scores`) or
    one column per candidate (:func:`~catimage.data.importers.score_shapes.wide_scores`).

    Args:
        path: a csv, tsv, jsonl, json or parquet file.
        metric: the name of the metric if the file has no column ``metric``; ``score`` by default.
        candidates: the names of the candidates, if they are known; they determine the columns of a
            file with one column per candidate.
        known: the prompts of a workspace, whose spellings replace those of the file.

    Raises:
        InputError: the file cannot be read, a column is missing, a prompt is invalid
            (:func:`catimage.data.prompts.cleaning.clean`), a name is empty or a path, a seed is not
            an integer, a value is not a finite number, or two rows have the same prompt, candidate,
            seed and metric.
    """
    rows = read_user_table(path)
    name = metric or DEFAULT_METRIC
    check_name(name, "metric: the name")
    if is_long(rows):
        prompts, scores, row_numbers = long_scores(rows, name)
    else:
        prompts, scores, row_numbers = wide_scores(rows, name, candidates)
    keys = ["text", "candidate", "seed", "metric"]
    check_unique(path, scores, keys, row_numbers, _REPEATS)
    used = {*("prompt", "candidate", "seed", "metric", "value"), *scores["candidate"].unique()}
    ignored = rows.ignored_column_messages(used, IGNORED)
    notes = [*ignored, *_default_notes(rows, scores, metric is not None)]
    table, scores, merged = merge_spellings(path, prompts, scores, known)
    scores = scores.assign(version=VERSION)[SCORES.names]
    return ScoresFile(path, table, scores, row_numbers, (*notes, *merged))


def _default_notes(rows: TextTable, scores: pd.DataFrame, named: bool) -> list[str]:
    """Return messages about columns that the file does not have."""
    notes = []
    if "metric" not in rows.names and not named:
        notes.append(
            f"{rows.path}: there is no column 'metric'; the metric is called {DEFAULT_METRIC!r}."
            " Name it with '--set metric=NAME'."
        )
    if "seed" not in rows.names and scores["seed"].any():
        notes.append(
            f"{rows.path}: there is no column 'seed'; repeated scores are numbered from 0 to"
            f" {scores['seed'].max()}."
        )
    return notes
