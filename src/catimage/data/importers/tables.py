"""The reader of all tables that users supply: scores, costs, lists of images, and prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from catimage.data.importers.delimited import read_delimited
from catimage.data.importers.parquet import read_parquet
from catimage.data.importers.records import read_json
from catimage.data.importers.text_files import read_text
from catimage.data.importers.text_table import TextTable
from catimage.errors import InputError

_READERS: dict[str, Callable[[Path, str], TextTable]] = {
    ".csv": lambda path, _: read_delimited(path, ",;\t"),
    ".tsv": lambda path, _: read_delimited(path, "\t,;"),
    ".jsonl": read_json,
    ".json": read_json,
    ".parquet": lambda path, _: read_parquet(path),
}
"""By suffix, the function that reads a file; its second argument names unnamed columns."""


def read_user_table(path: Path) -> TextTable:
    """Read a csv, tsv, jsonl, json or parquet file, whose format its suffix determines.

    Raises:
        InputError: the format is unknown, or the file cannot be read.
    """
    return _read(path, _READERS, "prompt")


def read_prompts_table(path: Path, column: str) -> TextTable:
    """As :func:`read_user_table`, also for files without names of columns.

    A txt file has one prompt per line, and a json or jsonl file may contain texts. Their column is
    called ``column``.

    Raises:
        InputError: the format is unknown, or the file cannot be read.
    """
    return _read(path, {**_READERS, ".txt": _read_lines}, column)


def _read(
    path: Path, readers: dict[str, Callable[[Path, str], TextTable]], unnamed: str
) -> TextTable:
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: unknown file format. Convert the file to one of {', '.join(readers)}, or"
            " rename it if it is one."
        )
    return reader(path, unnamed)


def _read_lines(path: Path, column: str) -> TextTable:
    """Read a text file with one text per line; blank lines are ignored."""
    lines = [(row, line) for row, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    texts = pa.chunked_array([pa.array([line for _, line in lines], pa.large_string())])
    return TextTable(path, [column], np.array([row for row, _ in lines]), lambda _: texts)
