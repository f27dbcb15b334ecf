"""Files of scores and of images that have been read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from catimage.common.arrays import Ints
from catimage.errors import InputError, nearest


@dataclass(frozen=True)
class ImportedFile:
    """A file of scores or of images, in the schemas of the workspace's tables.

    Attributes:
        path: the file.
        prompts: the prompts in the order of their first rows, with the columns ``prompt_id``,
            ``prompt`` and ``source`` (the name of the file).
        table: the columns ``prompt_id``, ``candidate``, ``seed`` and those that only files of
            scores or only files of images have.
        row_numbers: for messages, the number of the row of the file that each row of ``table`` is
            from, (n_rows,); see :class:`catimage.data.importers.text_table.TextTable`.
        notes: messages about changed prompts and ignored columns, which commands print.
    """

    path: Path
    prompts: pd.DataFrame
    table: pd.DataFrame
    row_numbers: Ints
    notes: tuple[str, ...] = ()

    @property
    def candidates(self) -> list[str]:
        """The names of the candidates, in the order of their first rows."""
        return list(self.table["candidate"].unique())

    def print_notes(self) -> None:
        """Print the messages about changed prompts and ignored columns."""
        for note in self.notes:
            print(note, flush=True)

    def first_row(self, column: str, value: str) -> int:
        """Return the row of the file in which ``value`` first occurs in a column of ``table``."""
        return int(self.row_numbers[(self.table[column] == value).to_numpy().argmax()])

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
                    f"{self.path}: row {self.first_row('candidate', name)}: candidate {name!r} is"
                    f" not in {source}{nearest(name, allowed)}. Add the candidate there, or"
                    " rename it in this file."
                )


def check_unique(
    path: Path, table: pd.DataFrame, keys: list[str], row_numbers: Ints, advice: str = ""
) -> None:
    """Check that no two rows have equal values in all columns ``keys``.

    Args:
        path: the file.
        table: the rows of the file.
        keys: the columns that identify a row. The first is ``candidate``, or it identifies the
            prompt.
        row_numbers: the number of each row in messages, (n_rows,).
        advice: what the user can do besides removing a row, as the end of the message.

    Raises:
        InputError: two rows have equal values; the message names both rows.
    """
    duplicated = table.duplicated(keys).to_numpy()
    if not duplicated.any():
        return
    second = int(duplicated.argmax())
    first = int((table[keys] == table.loc[second, keys]).all(axis=1).to_numpy().argmax())
    values = [f"{key} {table[key][second]}" for key in keys]
    if keys[0] != "candidate":
        values[0] = "the same prompt"
    raise InputError(
        f"{path}: rows {row_numbers[first]} and {row_numbers[second]} both have"
        f" {', '.join(values)}. Remove one of them{advice}."
    )
