"""Reading csv and tsv files that people made, so that every complaint names the file and the row."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from catimage.errors import InputError, nearest


@dataclass(frozen=True)
class Rows:
    """Columns of text, all of one length; ``numbers[i]`` is the line of the file on which row i
    begins (the header is 1).
    """

    path: Path
    columns: dict[str, list[str]]
    numbers: list[int]

    def __len__(self) -> int:
        return len(self.numbers)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark, line ends as they are.

    Raises:
        InputError: the file is missing, not readable, not UTF-8, or empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there: check the path.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: row {line} is not UTF-8: save the file as UTF-8.") from error
    if not text.strip():
        raise InputError(f"{path} is empty: it needs at least one row.")
    return text


def read_rows(path: Path, columns: list[str], tabs: bool = False) -> Rows:
    """Reads ``columns`` of a csv file, or of a tsv file, in which by convention a quotation mark is
    a letter like any other.

    Other columns are ignored, and so are blank lines.

    Raises:
        InputError: as :func:`read_text`; a column is missing or there twice; a row has more or
            fewer cells than the header; a quotation mark is never closed; there is no row below the
            header.
    """
    lines = StringIO(read_text(path), newline="")
    reader = (
        csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        if tabs
        else csv.reader(lines, strict=True)
    )
    table: list[list[str]] = []
    numbers: list[int] = []
    begins = 1
    try:
        for cells in reader:
            if cells:
                table.append(cells)
                numbers.append(begins)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}: row {begins} is not readable ({error}): look for a quotation mark that is not"
            " closed."
        ) from error
    header, table, numbers = [name.strip() for name in table[0]], table[1:], numbers[1:]
    places = [_place(path, header, name) for name in columns]
    if not table:
        raise InputError(f"{path} has a header and no row below it.")
    for number, cells in zip(numbers, table, strict=True):
        if len(cells) != len(header):
            raise InputError(
                f"{path}: row {number} has {len(cells)} cells and the header {len(header)}: quote a"
                " cell that holds a comma."
            )
    return Rows(
        path,
        {name: [cells[i] for cells in table] for name, i in zip(columns, places, strict=True)},
        numbers,
    )


def _place(path: Path, header: list[str], name: str) -> int:
    if header.count(name) > 1:
        raise InputError(f"{path} has the column {name!r} twice: rename one of them.")
    if name not in header:
        raise InputError(
            f"{path} lacks the column {name!r}{nearest(name, header)}; its columns are"
            f" {', '.join(header)}."
        )
    return header.index(name)
