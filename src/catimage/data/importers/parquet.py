"""Reading of parquet files, whose columns are read only when they are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catimage.data.importers.records import as_text
from catimage.data.importers.text_table import TextTable
from catimage.errors import InputError, error_summary


def read_parquet(path: Path) -> TextTable:
    """Read a parquet file. Numbers are converted to text without loss, and null to an empty text.

    Raises:
        InputError: the file does not exist, is not a readable parquet file, or has no rows.
    """
    if not path.exists():
        raise InputError(f"{path}: file not found. Check the path.")
    try:
        with pq.ParquetFile(path) as file:
            schema, n_rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    if not n_rows:
        raise InputError(f"{path}: the file is empty. Add at least one row.")

    def load(position: int) -> pa.ChunkedArray:
        try:
            with pq.ParquetFile(path) as file:
                return _as_texts(file.read(columns=[schema.names[position]]).column(0))
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error

    not_text = {
        column.name: f"{path}: the column {column.name!r} has the type {column.type}, not text. Use"
        " a column of text."
        for column in schema
        if not _is_text(column.type)
    }
    return TextTable(path, schema.names, np.arange(1, n_rows + 1), load, not_text)


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: not a readable parquet file ({error_summary(error)}). Write the file again."
    )


def _is_text(kind: pa.DataType) -> bool:
    """Return whether a column has texts only: strings of any kind, a dictionary, or nulls."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _as_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert a column of any type to large strings without nulls."""
    try:
        texts = column.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        values = [as_text(value) for value in column.to_pylist()]
        texts = pa.chunked_array([pa.array(values, pa.large_string())])
    return texts.fill_null("")
