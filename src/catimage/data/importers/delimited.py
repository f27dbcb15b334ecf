"""Reading of CSV and TSV files, whose delimiter and quotation marks are recognised."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from catimage.common.arrays import Ints
from catimage.data.importers.text_files import read_text
from catimage.data.importers.text_table import TextTable
from catimage.errors import InputError

BLOCK_BYTES = 1 << 26
"""The size of the blocks that are parsed at a time. A row cannot be longer."""


class _InvalidQuotes(Exception):
    """A quotation mark is not closed, or is closed in the middle of a cell; has the line."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


@dataclass(frozen=True)
class _Format:
    """The format of a file.

    Attributes:
        delimiter: the character between cells.
        quoted: whether a quotation mark at the beginning of a cell quotes the cell.
    """

    delimiter: str
    quoted: bool


def read_delimited(path: Path, delimiters: str) -> TextTable:
    """Read a file whose first row has the names of the columns; blank lines are ignored.

    A quotation mark at the beginning of a cell quotes the cell. In a file separated by tabs, which
    some programs write without quoting, this applies only if all quotation marks agree with it.

    Args:
        path: the file.
        delimiters: the possible delimiters. The header is split by the one that gives the most
            columns, the first of them if several do.

    Raises:
        InputError: the file cannot be read, a row has more or fewer cells than the header, a
            quotation mark is not closed, or there are no rows after the header.
    """
    data = read_text(path).encode()
    delimiter = _delimiter(data, delimiters)
    form = _Format(delimiter, b'"' in data and _is_quoted(path, data, delimiter))
    header = [name.strip() for name in next(_records(data, form))[1]]
    table = _parse(path, data, form, len(header))
    if not table.num_rows:
        raise InputError(f"{path}: there are no rows after the header. Add at least one row.")
    numbers = _row_numbers(data, form, table.num_rows)
    return TextTable(path, header, numbers, table.column, decimal_comma=delimiter == ";")


def _records(data: bytes, form: _Format) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each record begins, and its cells; blank lines are omitted.

    Raises:
        _InvalidQuotes: the quotation marks are invalid.
    """
    csv.field_size_limit(2**31 - 1)  # the default refuses cells of 128 KiB
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE
    reader = csv.reader(text, delimiter=form.delimiter, quoting=quoting, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise _InvalidQuotes(line) from error


def _delimiter(data: bytes, delimiters: str) -> str:
    """Return the delimiter that splits the header into the most cells."""

    def width(delimiter: str) -> int:
        try:
            return len(next(_records(data, _Format(delimiter, quoted=True)))[1])
        except _InvalidQuotes:
            return 0

    return max(delimiters, key=width)


def _is_quoted(path: Path, data: bytes, delimiter: str) -> bool:
    """Return whether a quotation mark at the beginning of a cell quotes the cell.

    If cells of a file separated by tabs would contain line breaks, all of its lines have the same
    number of tabs, and no quotation mark is doubled, the quotation marks are part of the texts.

    Raises:
        InputError: the delimiter is not a tab, and the quotation marks are invalid.
    """
    try:
        n_records = sum(1 for _ in _records(data, _Format(delimiter, quoted=True)))
    except _InvalidQuotes as error:
        if delimiter == "\t":
            return False
        raise InputError(
            f"{path}: cannot parse row {error.line}: a quotation mark is not closed, or is followed"
            " by text. Close every quotation mark, and double those inside a cell."
        ) from error
    if delimiter != "\t" or b'""' in data:
        return True
    tabs = [line.count(b"\t") for line in data.splitlines() if line]
    return n_records == len(tabs) or len(set(tabs)) > 1


def _parse(path: Path, data: bytes, form: _Format, width: int) -> pa.Table:
    """Return the rows after the header; all columns are large strings."""
    names = [str(i) for i in range(width)]
    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            pacsv.ReadOptions(column_names=names, block_size=BLOCK_BYTES),
            pacsv.ParseOptions(
                delimiter=form.delimiter,
                quote_char='"' if form.quoted else False,
                newlines_in_values=form.quoted,
            ),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _bad_row(path, data, form, width) from error
    return table.slice(1)


def _bad_row(path: Path, data: bytes, form: _Format, width: int) -> InputError:
    """Return the error about the first row that has not as many cells as the header."""
    for line, cells in _records(data, form):
        if len(cells) != width:
            return InputError(
                f"{path}: row {line} has {len(cells)} cells and the header has {width}. Quote the"
                " cells that contain a delimiter."
            )
    return InputError(
        f"{path}: a row has more than {BLOCK_BYTES >> 20} MiB. Remove the columns that the command"
        " does not read."
    )


def _row_numbers(data: bytes, form: _Format, n_rows: int) -> Ints:
    """Return the line on which each row begins, (n_rows,)."""
    n_lines = data.count(b"\n") + (not data.endswith(b"\n"))
    if n_lines == n_rows + 1 and data.count(b"\r") == data.count(b"\r\n"):
        return np.arange(2, n_lines + 1)
    lines = (line for line, _ in _records(data, form))
    return np.fromiter(lines, np.int64, n_rows + 1)[1:]
