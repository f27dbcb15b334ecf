"""Columns of csv files that people made, as the tables have them; every complaint names the file
and the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from catimage.data.importers.delimited import Rows
from catimage.data.prompts.cleaning import clean
from catimage.data.prompts.identity import prompt_id, splits_of
from catimage.data.schema import PROMPTS
from catimage.errors import InputError, nearest

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class ImportedFile:
    """A file that is imported, in the schemas of the tables.

    ``prompts`` is in order of appearance, split by hash, its source the file's name. ``table``
    (n_rows,) has ``prompt_id``, ``candidate``, ``seed`` and more; ``rows`` (n_rows,) is the line of
    the file for each.
    """

    path: Path
    prompts: pd.DataFrame
    table: pd.DataFrame
    rows: np.ndarray

    @property
    def candidates(self) -> list[str]:
        """Names of the candidates, in order of appearance."""
        return list(self.table["candidate"].unique())

    def first_row(self, column: str, value: str) -> int:
        """The line of the file where ``value`` first stands in a column of ``table``."""
        return int(self.rows[(self.table[column] == value).to_numpy().argmax()])

    def check_candidates(self, known: list[str], where: str) -> None:
        """Every candidate of the file is among ``known``; ``where`` tells what knows them.

        Raises:
            InputError: naming the first that is not, and its row.
        """
        for name in self.candidates:
            if name not in known:
                row = self.first_row("candidate", name)
                raise InputError(
                    f"{self.path}: row {row}: candidate {name!r} is not in"
                    f" {where}{nearest(name, known)}: add or rename it."
                )


def shortened(prompt: str, most: int = 60) -> str:
    """The beginning of a prompt, for a message."""
    return prompt if len(prompt) <= most else prompt[: most - 3] + "..."


def read_prompts(rows: Rows) -> tuple[list[str], pd.DataFrame]:
    """The identifier of each row's prompt, and the prompts table.

    Raises:
        InputError: a prompt is not one (:func:`catimage.data.prompts.cleaning.clean`).
    """
    texts: dict[str, str] = {}
    for text, number in zip(rows.columns["prompt"], rows.numbers, strict=True):
        if text not in texts:
            texts[text] = clean(text, f"{rows.path}: row {number}")
    ids = {text: prompt_id(prompt) for text, prompt in texts.items()}
    prompts = pd.DataFrame(
        {"prompt_id": ids.values(), "prompt": texts.values(), "source": rows.path.name}
    ).drop_duplicates("prompt_id", ignore_index=True)
    prompts["split"] = splits_of(prompts["prompt"])
    return [ids[text] for text in rows.columns["prompt"]], prompts[PROMPTS.names]


def read_names(rows: Rows, column: str) -> list[str]:
    """A column of names, without blanks around them.

    Raises:
        InputError: one is empty.
    """
    names = [name.strip() for name in rows.columns[column]]
    if "" in names:
        raise InputError(
            f"{rows.path}: row {rows.numbers[names.index('')]}: the {column} is empty: fill it in"
            " or remove the row."
        )
    return names


def read_numbers(rows: Rows, column: str, read: Callable[[str], Number], what: str) -> list[Number]:
    """A column of numbers, by a function such as :func:`finite`; ``what`` they are to be is told.

    Raises:
        InputError: one is not.
    """
    texts = rows.columns[column]
    try:
        return [read(text) for text in texts]
    except ValueError:
        bad = next(i for i, text in enumerate(texts) if not _readable(read, text))
        found = shortened(texts[bad])
        raise InputError(
            f"{rows.path}: row {rows.numbers[bad]}: the {column} is {found!r}, not {what}: mend or"
            " remove the row."
        ) from None


def _readable(read: Callable[[str], Number], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def finite(text: str) -> float:
    """A finite number, or ValueError."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def cost(text: str) -> float:
    """A finite number that is not negative, or ValueError."""
    value = finite(text)
    if value < 0:
        raise ValueError(text)
    return value


def integer(text: str) -> int:
    """A whole number of 64 bits, or ValueError."""
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def refuse_twice(path: Path, frame: pd.DataFrame, keys: list[str], numbers: list[int]) -> None:
    """No two rows of ``frame`` have the same ``keys``; ``numbers`` are their lines in the file.

    Raises:
        InputError: naming the first two that have.
    """
    second = frame.duplicated(keys).to_numpy()
    if second.any():
        i = int(second.argmax())
        same = (frame[keys] == frame.loc[i, keys]).all(axis=1).to_numpy()
        first, named = (
            numbers[int(same.argmax())],
            ", ".join(f"{key} {frame[key][i]}" for key in keys if key != "prompt_id"),
        )
        prompt = "the same prompt, " if "prompt_id" in keys else ""
        raise InputError(
            f"{path}: rows {first} and {numbers[i]} both are about {prompt}{named}: remove one of"
            " them."
        )
