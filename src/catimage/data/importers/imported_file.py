"""Parsing and checks of the columns that all imported CSV files have: prompts, names, numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from catimage.common.arrays import Ints
from catimage.data.importers.delimited import TextColumns
from catimage.data.prompts.cleaning import clean
from catimage.data.prompts.identity import prompt_id
from catimage.errors import InputError, nearest

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class ImportedFile:
    """A file of scores or of images, in the schemas of the workspace's tables.

    Attributes:
        path: the file.
        prompts: the prompts in the order of their first rows, with the columns ``prompt_id``,
            ``prompt`` and ``source`` (the name of the file).
        table: one row per row of the file, with the columns ``prompt_id``, ``candidate``, ``seed``
            and those that only files of scores or only files of images have.
        line_numbers: the line of the file on which each row of ``table`` begins, (n_rows,).
    """

    path: Path
    prompts: pd.DataFrame
    table: pd.DataFrame
    line_numbers: Ints

    @property
    def candidates(self) -> list[str]:
        """The names of the candidates, in the order of their first rows."""
        return list(self.table["candidate"].unique())

    def first_line(self, column: str, value: str) -> int:
        """Return the line of the file on which ``value`` first occurs in a column of ``table``."""
        return int(self.line_numbers[(self.table[column] == value).to_numpy().argmax()])

    def check_candidates(self, allowed: list[str], source: str) -> None:
        """Check that every candidate of the file is in ``allowed``.

        Args:
            allowed: the names of the allowed candidates.
            source: a description of the place that lists these names, for the message.

        Raises:
            InputError: a candidate is not allowed; the message names the first such candidate and
                its row.
        """
        for name in self.candidates:
            if name not in allowed:
                raise InputError(
                    f"{self.path}: row {self.first_line('candidate', name)}: candidate {name!r} is"
                    f" not in {source}{nearest(name, allowed)}. Add the candidate there, or"
                    " rename it in this file."
                )


def abbreviated(text: str, length: int = 60) -> str:
    """Return the text, cut to ``length`` characters for a message."""
    return text if len(text) <= length else text[: length - 3] + "..."


def parse_prompts(rows: TextColumns) -> tuple[list[str], pd.DataFrame]:
    """Return the ``prompt_id`` of each row, and the prompts (``ImportedFile.prompts``).

    Raises:
        InputError: a prompt is empty or too long (:func:`catimage.data.prompts.cleaning.clean`).
    """
    texts: dict[str, str] = {}
    for text, number in zip(rows.columns["prompt"], rows.line_numbers, strict=True):
        if text not in texts:
            texts[text] = clean(text, f"{rows.path}: row {number}")
    ids = {text: prompt_id(prompt) for text, prompt in texts.items()}
    prompts = pd.DataFrame(
        {"prompt_id": ids.values(), "prompt": texts.values(), "source": rows.path.name}
    ).drop_duplicates("prompt_id", ignore_index=True)
    return [ids[text] for text in rows.columns["prompt"]], prompts


def parse_names(rows: TextColumns, column: str) -> list[str]:
    """Return a column of names, without white space around them.

    Raises:
        InputError: a name is empty.
    """
    names = [name.strip() for name in rows.columns[column]]
    if "" in names:
        line = rows.line_numbers[names.index("")]
        raise InputError(
            f"{rows.path}: row {line}: the {column} is empty. Fill it in or remove the row."
        )
    return names


def parse_numbers(
    rows: TextColumns, column: str, convert: Callable[[str], Number], expected: str
) -> list[Number]:
    """Return a column of numbers.

    Args:
        rows: the columns of the file.
        column: the name of the column.
        convert: a function that converts the text of a cell, such as :func:`finite`. It raises
            ValueError if the text is not a valid number.
        expected: a description of valid numbers, for the message.

    Raises:
        InputError: a number is invalid.
    """
    numbers = []
    for text, line in zip(rows.columns[column], rows.line_numbers, strict=True):
        try:
            numbers.append(convert(text))
        except ValueError:
            raise InputError(
                f"{rows.path}: row {line}: the {column} is {abbreviated(text)!r}, not {expected}."
                " Correct or remove the row."
            ) from None
    return numbers


def finite(text: str) -> float:
    """Return a finite number; raise ValueError for any other text."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def non_negative(text: str) -> float:
    """Return a finite number of 0 or more; raise ValueError for any other text."""
    value = finite(text)
    if value < 0:
        raise ValueError(text)
    return value


def integer(text: str) -> int:
    """Return an integer of 64 bits; raise ValueError for any other text."""
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def check_unique(path: Path, table: pd.DataFrame, keys: list[str], line_numbers: list[int]) -> None:
    """Check that no two rows of ``table`` have the same values in the columns ``keys``.

    Raises:
        InputError: two rows have the same values; the message names the lines of the first such
            rows.
    """
    duplicated = table.duplicated(keys).to_numpy()
    if not duplicated.any():
        return
    second = int(duplicated.argmax())
    first = int((table[keys] == table.loc[second, keys]).all(axis=1).to_numpy().argmax())
    values = [f"{key} {table[key][second]}" for key in keys if key != "prompt_id"]
    if "prompt_id" in keys:
        values.insert(0, "the same prompt")
    raise InputError(
        f"{path}: rows {line_numbers[first]} and {line_numbers[second]} both have"
        f" {', '.join(values)}. Remove one of them."
    )
