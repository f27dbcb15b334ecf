"""Reading of JSON: a list of objects or strings, or one object or string per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa

from catimage.data.importers.text_files import read_text
from catimage.data.importers.text_table import TextTable
from catimage.errors import InputError

CHUNK = 50_000
"""The number of records that are in memory at a time as Python objects."""
_FIX = "Write a list of objects, or one object per line"


def read_json(path: Path, unnamed: str) -> TextTable:
    """Read a JSON file. Its columns are the keys of all objects; a missing key is an empty string.

    A file that begins with ``[`` is read as one list, and any other file line by line. Blank
    lines are ignored.

    Args:
        path: the file.
        unnamed: the name of the column if the records are strings instead of objects.

    Raises:
        InputError: the file cannot be read, is not JSON, or a record is neither an object nor a
            string.
    """
    columns = _Columns(path, unnamed)
    records = _records(path, read_text(path))
    while chunk := list(islice(records, CHUNK)):
        columns.add(chunk)
    if not columns.rows:
        raise InputError(f"{path}: the list is empty. Add at least one row.")
    return columns.table()


def as_text(value: Any) -> str:
    """Return a string unchanged, None as an empty string, a number as digits, others as JSON."""
    if isinstance(value, str):
        return value
    if type(value) in (int, float):
        return repr(value)
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _records(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Yield the number of the row and the value of each record."""
    if text.lstrip().startswith("["):
        values = _parse(path, text, "the content")
        yield from enumerate(values, 1)
        return
    for row, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield row, _parse(path, line, f"row {row}")


def _parse(path: Path, text: str, location: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{path}: {location} is not JSON{reason}. {_FIX}.") from error


@dataclass
class _Columns:
    """The columns of the records that have been read.

    Attributes:
        path: the file.
        unnamed: the name of the column of records that are strings.
        rows: the row number of each record, for error messages.
        chunks: by column, the strings of all rows that have been read.
        not_text: by column, a message that names the first value that is not a string.
        problems: by column, a message that names the first string that UTF-8 cannot encode.
    """

    path: Path
    unnamed: str
    rows: list[int] = field(default_factory=list)
    chunks: dict[str, list[pa.Array]] = field(default_factory=dict)
    not_text: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def add(self, chunk: list[tuple[int, Any]]) -> None:
        """Add records with their row numbers."""
        rows = [row for row, _ in chunk]
        records = [self._as_object(row, value) for row, value in chunk]
        for name in dict.fromkeys(key for record in records for key in record):
            if name not in self.chunks:
                self.chunks[name] = [_empty(len(self.rows))]
        for name, arrays in self.chunks.items():
            arrays.append(self._array(name, rows, [record.get(name) for record in records]))
        self.rows += rows

    def table(self) -> TextTable:
        """Return the table of all records."""
        names = list(self.chunks)
        arrays = [pa.chunked_array(self.chunks[name]) for name in names]
        rows = np.array(self.rows)
        return TextTable(self.path, names, rows, arrays.__getitem__, self.not_text, self.problems)

    def _as_object(self, row: int, value: Any) -> dict[str, Any]:
        if isinstance(value, str):
            return {self.unnamed: value}
        if isinstance(value, dict):
            return value
        raise InputError(f"{self.path}: row {row} is neither an object nor a string. {_FIX}.")

    def _array(self, name: str, rows: list[int], values: list[Any]) -> pa.Array:
        texts = values
        if not set(map(type, values)) <= {str, NoneType}:
            self._note(name, rows, values)
            texts = [as_text(value) for value in values]
        try:
            return pa.array(texts, pa.large_string()).fill_null("")
        except UnicodeEncodeError:
            return self._encodable(name, rows, [as_text(text) for text in texts])

    def _note(self, name: str, rows: list[int], values: list[Any]) -> None:
        """Note the first value of a column that is not a string."""
        if name not in self.not_text:
            position = next(i for i, v in enumerate(values) if not isinstance(v, str | None))
            self.not_text[name] = (
                f"{self.path}: row {rows[position]}: {name!r} is {values[position]!r}, not a"
                " string. Correct or remove the row."
            )

    def _encodable(self, name: str, rows: list[int], texts: list[str]) -> pa.Array:
        """Replace characters that UTF-8 cannot encode, and note the first row that has one."""
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        row = next(r for r, a, b in zip(rows, texts, clean, strict=True) if a != b)
        self.problems.setdefault(
            name,
            f"{self.path}: row {row}: the {name} contains a lone surrogate (half of a UTF-16"
            " character). Write the whole character.",
        )
        return pa.array(clean, pa.large_string())


def _empty(n: int) -> pa.Array:
    """Return ``n`` empty strings."""
    return pa.array([""], pa.large_string()).take(pa.array(np.zeros(n, np.int64)))
