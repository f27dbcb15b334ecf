"""A table of text: the common form of the files that users supply, whatever their format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catimage.common.arrays import Ints
from catimage.errors import InputError, nearest

MAX_LISTED = 12
"""The number of columns that a message lists."""


@dataclass(frozen=True)
class TextTable:
    """The columns of a file, as text. An empty text is a missing value.

    Attributes:
        path: the file.
        names: the names of the columns, in the order of the file.
        row_numbers: the number of each row in error messages, (n_rows,). In a text file, it is the
            line on which the row begins, as a spreadsheet shows it; otherwise rows are counted
            from 1.
        load: a function that returns the cells of the column at a position: large strings without
            nulls, (n_rows,).
        not_text: by column, the message for a column whose values are not text in the file.
        problems: by column, the message for a column that cannot be read.
        decimal_comma: whether numbers may have a decimal comma, as in a file separated by
            semicolons.
    """

    path: Path
    names: list[str]
    row_numbers: Ints
    load: Callable[[int], pa.ChunkedArray]
    not_text: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    decimal_comma: bool = False

    def __len__(self) -> int:
        return len(self.row_numbers)

    def require(self, *names: str) -> None:
        """Check that the file has each of these columns once.

        Raises:
            InputError: a column is missing or occurs twice.
        """
        for name in names:
            if self.names.count(name) > 1:
                raise InputError(
                    f"{self.path}: the column {name!r} occurs twice. Rename one of them."
                )
            if name not in self.names:
                others = ", ".join(self.names[:MAX_LISTED]) + ", ..." * (
                    len(self.names) > MAX_LISTED
                )
                raise InputError(
                    f"{self.path}: the column {name!r} is missing{nearest(name, self.names)}. Add"
                    f" it or rename one of the columns {others}."
                )

    def cells(self, name: str) -> pa.ChunkedArray:
        """Return the cells of a column, large strings without nulls, (n_rows,).

        Raises:
            InputError: the column is missing, occurs twice, or cannot be read.
        """
        self.require(name)
        if name in self.problems:
            raise InputError(self.problems[name])
        return self.load(self.names.index(name))

    def dictionary_encoded(self, name: str) -> tuple[Ints, list[str]]:
        """Return the cells of a column without white space around them, each distinct text once.

        Returns:
            The position of the text of each row, (n_rows,), and the texts in the order of their
            first rows.

        Raises:
            InputError: the column is missing, occurs twice, or cannot be read.
        """
        return distinct(pc.utf8_trim_whitespace(self.cells(name)))

    def texts(self, name: str) -> tuple[Ints, list[str]]:
        """As :meth:`dictionary_encoded`, for a column that must contain text, such as the prompts.

        Raises:
            InputError: the column is missing, cannot be read, or contains other values than text.
        """
        self.require(name)
        if name in self.not_text:
            raise InputError(self.not_text[name])
        return self.dictionary_encoded(name)

    def message_prefix(self, position: int) -> str:
        """Return the file and the number of a row, the beginning of a message."""
        return f"{self.path}: row {self.row_numbers[position]}"

    def ignored_column_messages(self, used: Collection[str], fixes: Mapping[str, str]) -> list[str]:
        """Return a message per unused column that a user may expect to be read.

        Args:
            used: the columns that are used.
            fixes: by name of the column in lower case, what applies or what to do instead.
        """
        return [
            f"{self.path}: the column {name!r} is ignored. {fixes[name.lower()]}."
            for name in self.names
            if name not in used and name.lower() in fixes
        ]


def distinct(cells: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Return the position of each cell in the list of distinct texts, and this list."""
    array = cells.combine_chunks().dictionary_encode()
    if isinstance(array, pa.ChunkedArray):  # no cells
        return np.empty(0, np.int64), []
    return array.indices.to_numpy().astype(np.int64), array.dictionary.to_pylist()


def first_positions(codes: Ints) -> Ints:
    """Return the position of the first occurrence of each of the numbers 0, 1, ... in ``codes``."""
    return np.unique(codes, return_index=True)[1]
