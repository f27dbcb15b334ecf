"""Scores and costs that somebody else measured, as csv: ``prompt,candidate,seed,metric,value`` and ``candidate,cost,unit``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from catimage.delimited import Rows, read_rows
from catimage.errors import InputError, nearest
from catimage.prompts.cleaning import clean
from catimage.tables import PROMPTS, SCORES, prompt_id, split_of

SCORE_COLUMNS = ["prompt", "candidate", "seed", "metric", "value"]
COST_COLUMNS = ["candidate", "cost", "unit"]
VERSION = "imported"
"""The version of every imported score: who measured it, and how, is not known here."""
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class ScoresFile:
    """A scores file in the schemas of the tables.

    ``prompts`` is in order of appearance, split by hash, its source the file's name. ``rows`` (n_scores,) is the line
    of the file for each score.
    """

    path: Path
    prompts: pd.DataFrame
    scores: pd.DataFrame
    rows: np.ndarray

    @property
    def candidates(self) -> list[str]:
        """Names of the candidates, in order of appearance."""
        return list(self.scores["candidate"].unique())

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in order of appearance."""
        return list(self.scores["metric"].unique())

    def first_row(self, column: str, value: str) -> int:
        """The line of the file where ``value`` first stands in a column of ``scores``."""
        return int(self.rows[(self.scores[column] == value).to_numpy().argmax()])

    def only(self, metric: str) -> ScoresFile:
        """The scores of one metric.

        Raises:
            InputError: the file has none.
        """
        if metric not in self.metrics:
            raise InputError(f"{self.path} has no metric {metric!r}{nearest(metric, self.metrics)}; it has {', '.join(self.metrics)}.")
        kept = (self.scores["metric"] == metric).to_numpy()
        scores = self.scores[kept].reset_index(drop=True)
        prompts = self.prompts[self.prompts["prompt_id"].isin(scores["prompt_id"])].reset_index(drop=True)
        return ScoresFile(self.path, prompts, scores, self.rows[kept])

    def check_candidates(self, known: list[str], where: str) -> None:
        """Every candidate of the file is among ``known``; ``where`` tells what knows them.

        Raises:
            InputError: naming the first that is not, and its row.
        """
        for name in self.candidates:
            if name not in known:
                row = self.first_row("candidate", name)
                raise InputError(f"{self.path}: row {row}: candidate {name!r} is not in {where}{nearest(name, known)}: add or rename it.")

    def check_complete(self, metrics: list[str], candidates: list[str]) -> None:
        """Every prompt has a score by each of ``metrics`` for each of ``candidates``: a label is needed for every choice (eq. 3).

        Raises:
            InputError: naming the first hole in the order of the file.
        """
        ids = pd.Index(self.prompts["prompt_id"])
        for metric in metrics:
            rows = self.scores[self.scores["metric"] == metric]
            there = np.zeros((len(ids), len(candidates)), bool)
            there[ids.get_indexer(pd.Index(rows["prompt_id"])), pd.Index(candidates).get_indexer(pd.Index(rows["candidate"]))] = True
            if not there.all():
                i, j = np.argwhere(~there)[0]
                row, prompt = self.first_row("prompt_id", ids[i]), shortened(self.prompts["prompt"][i])
                raise InputError(
                    f"{self.path}: row {row}: the prompt {prompt!r} has no {metric!r} score for the candidate {candidates[j]!r}: "
                    "every prompt needs a score for every candidate, so add it or remove the prompt."
                )


def shortened(prompt: str, most: int = 60) -> str:
    """The beginning of a prompt, for a message."""
    return prompt if len(prompt) <= most else prompt[: most - 3] + "..."


def parse_scores(path: Path) -> ScoresFile:
    """Reads a scores file, and checks each row and that no score is there twice, but not which candidates there are.

    Raises:
        InputError: naming the file and the row: see :func:`catimage.delimited.read_rows` and :func:`catimage.prompts.cleaning.clean`;
            a name is empty; a seed is not an integer; a value is not a finite number; two rows score the same image by the same metric.
    """
    rows = read_rows(path, SCORE_COLUMNS)
    texts: dict[str, str] = {}
    for text, number in zip(rows.columns["prompt"], rows.numbers, strict=True):
        if text not in texts:
            texts[text] = clean(text, f"{path}: row {number}")
    ids = {text: prompt_id(prompt) for text, prompt in texts.items()}
    scores = pd.DataFrame(
        {
            "prompt_id": [ids[text] for text in rows.columns["prompt"]],
            "candidate": _names(rows, "candidate"),
            "seed": _numbers(rows, "seed", _integer, "a whole number"),
            "metric": _names(rows, "metric"),
            "version": VERSION,
            "value": _numbers(rows, "value", _finite, "a finite number"),
        }
    )
    _refuse_twice(path, scores, ["prompt_id", "candidate", "seed", "metric"], rows.numbers)
    prompts = pd.DataFrame({"prompt_id": ids.values(), "prompt": texts.values(), "source": path.name}).drop_duplicates(
        "prompt_id", ignore_index=True
    )
    prompts["split"] = [split_of(i) for i in prompts["prompt_id"]]
    return ScoresFile(path, prompts[PROMPTS.names], scores[SCORES.names], np.array(rows.numbers))


def read_costs_csv(path: Path) -> pd.DataFrame:
    """Costs as the columns ``candidate, cost, unit``, in the order of the file.

    Raises:
        InputError: a cost is negative or not a finite number, a name is empty, or a candidate has two costs in one unit.
    """
    rows = read_rows(path, COST_COLUMNS)
    cost = _numbers(rows, "cost", _cost, "a finite number, zero or more")
    costs = pd.DataFrame({"candidate": _names(rows, "candidate"), "cost": cost, "unit": _names(rows, "unit")})
    _refuse_twice(path, costs, ["candidate", "unit"], rows.numbers)
    return costs


def _names(rows: Rows, column: str) -> list[str]:
    names = [name.strip() for name in rows.columns[column]]
    if "" in names:
        raise InputError(f"{rows.path}: row {rows.numbers[names.index('')]}: the {column} is empty: fill it in or remove the row.")
    return names


def _numbers(rows: Rows, column: str, read: Callable[[str], Number], what: str) -> list[Number]:
    texts = rows.columns[column]
    try:
        return [read(text) for text in texts]
    except ValueError:
        bad = next(i for i, text in enumerate(texts) if not _readable(read, text))
        found = shortened(texts[bad])
        raise InputError(f"{rows.path}: row {rows.numbers[bad]}: the {column} is {found!r}, not {what}: mend or remove the row.") from None


def _readable(read: Callable[[str], Number], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _cost(text: str) -> float:
    value = _finite(text)
    if value < 0:
        raise ValueError(text)
    return value


def _integer(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def _refuse_twice(path: Path, frame: pd.DataFrame, keys: list[str], numbers: list[int]) -> None:
    second = frame.duplicated(keys).to_numpy()
    if second.any():
        i = int(second.argmax())
        same = (frame[keys] == frame.loc[i, keys]).all(axis=1).to_numpy()
        first, named = numbers[int(same.argmax())], ", ".join(f"{key} {frame[key][i]}" for key in keys if key != "prompt_id")
        prompt = "the same prompt, " if "prompt_id" in keys else ""
        raise InputError(f"{path}: rows {first} and {numbers[i]} both are about {prompt}{named}: remove one of them.")
