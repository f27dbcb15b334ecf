"""Functions that read CSV and TSV files; their error messages name the file and the row."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from catimage.errors import InputError, nearest


@dataclass(frozen=True)
class TextColumns:
    """Columns of a CSV or TSV file, as text.

    Attributes:
        path: the file.
        columns: the cells of each column, by name; all columns have the same length.
        line_numbers: the line on which each row begins, which error messages give as its "row". The
            numbers are those of a spreadsheet (the header is row 1, and blank rows count), unless
            cells contain line breaks.
    """

    path: Path
    columns: dict[str, list[str]]
    line_numbers: list[int]

    def __len__(self) -> int:
        return len(self.line_numbers)


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark and with its line ends unchanged.

    Raises:
        InputError: the file does not exist, cannot be read, is not UTF-8, or is empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: file not found. Check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the file ({error.strerror}). Check the path and its permissions."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: row {line} is not UTF-8. Save the file as UTF-8.") from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty. Add at least one row.")
    return text


def read_columns(path: Path, columns: list[str], tabs: bool = False) -> TextColumns:
    """Read ``columns`` of a CSV file; other columns and blank lines are ignored.

    Args:
        path: the file, whose first row is the header.
        columns: the names of the columns to read.
        tabs: if True, read a TSV file, in which quotation marks have no special meaning.

    Raises:
        InputError: the file cannot be read (:func:`read_text`), a column is missing or occurs
            twice, a row has more or fewer cells than the header, a quotation mark is not closed, or
            there are no rows after the header.
    """
    table, line_numbers = _parse(path, tabs)
    header = [name.strip() for name in table.pop(0)]
    line_numbers = line_numbers[1:]
    positions = [_position(path, header, name) for name in columns]
    if not table:
        raise InputError(f"{path}: there are no rows after the header. Add at least one row.")
    for number, cells in zip(line_numbers, table, strict=True):
        if len(cells) != len(header):
            raise InputError(
                f"{path}: row {number} has {len(cells)} cells and the header has {len(header)}."
                " Quote the cells that contain a comma."
            )
    values = {
        name: [cells[i] for cells in table] for name, i in zip(columns, positions, strict=True)
    }
    return TextColumns(path, values, line_numbers)


def _parse(path: Path, tabs: bool) -> tuple[list[list[str]], list[int]]:
    """Return the rows of a file, header included, and the line on which each row begins."""
    text = StringIO(read_text(path), newline="")
    if tabs:
        reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(text, strict=True)
    table: list[list[str]] = []
    line_numbers: list[int] = []
    line = 1
    try:
        for cells in reader:
            if cells:
                table.append(cells)
                line_numbers.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}: cannot parse row {line} ({error}). Close every quotation mark."
        ) from error
    return table, line_numbers


def _position(path: Path, header: list[str], name: str) -> int:
    """Return the index of a column."""
    if header.count(name) > 1:
        raise InputError(f"{path}: the column {name!r} occurs twice. Rename one of them.")
    if name not in header:
        raise InputError(
            f"{path}: the column {name!r} is missing{nearest(name, header)}. Add it or rename"
            f" one of the columns {', '.join(header)}."
        )
    return header.index(name)
