"""Schemas of the tables that stages exchange, and functions that read and write them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from catimage.errors import InputError
from catimage.workspace import replacing

SPLITS = ("train", "gate", "val", "test")
"""The names of the splits. Estimators are trained on ``train``, the rule is calibrated on ``val``,
the router is evaluated on ``test``, and only promotion reads ``gate``.
"""

PROMPTS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
    ]
)
CANDIDATES = pa.schema(
    [
        ("candidate", pa.string()),
        ("generator", pa.string()),
        ("steps", pa.int64()),
        ("cost", pa.float64()),
        ("unit", pa.string()),
    ]
)
IMAGES = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("candidate", pa.string()),
        ("seed", pa.int64()),
        ("image", pa.binary()),
        ("seconds", pa.float64()),
    ]
)
SCORES = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("candidate", pa.string()),
        ("seed", pa.int64()),
        ("metric", pa.string()),
        ("version", pa.string()),
        ("value", pa.float64()),
    ]
)


def write_table(frame: pd.DataFrame, path: Path, schema: pa.Schema) -> None:
    """Write ``frame`` as a parquet file with exactly ``schema``.

    The previous file is replaced only after the new one is complete.

    Raises:
        InputError: a column is missing, is not in the schema, or has another type.
    """
    write_frames([frame], path, schema)


def write_frames(frames: Iterable[pd.DataFrame], path: Path, schema: pa.Schema) -> None:
    """Write the rows of several frames as one parquet file; see :func:`write_table`.

    Only one frame has to fit into memory at a time.

    Raises:
        InputError: a column is missing, is not in the schema, or has another type.
    """
    with replacing(path) as fresh, pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
        for frame in frames:
            writer.write_table(_to_arrow(frame, path, schema))


def _to_arrow(frame: pd.DataFrame, path: Path, schema: pa.Schema) -> pa.Table:
    extra, missing = set(frame.columns) - set(schema.names), set(schema.names) - set(frame.columns)
    if extra or missing:
        raise InputError(
            f"{path}: missing columns {sorted(missing)}, unknown columns {sorted(extra)}. Write the"
            f" columns {schema.names}."
        )
    try:
        return pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(
            f"{path}: a column has a value of the wrong type ({error}). Convert the column to the"
            " type of the schema."
        ) from error


def read_table(path: Path, schema: pa.Schema, stage: str) -> pd.DataFrame:
    """Read a parquet file and check that it has ``schema``.

    Args:
        path: the file.
        schema: the expected schema.
        stage: the stage that writes the file, named in error messages.

    Raises:
        InputError: the file is missing, is not parquet, or has other columns or types.
    """
    if not path.exists():
        raise InputError(f"{path}: the file does not exist. Run 'catimage {stage}' first.")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path}: not a readable parquet file ({error}). Run 'catimage {stage}' again."
        ) from error
    if not table.schema.equals(schema):
        raise InputError(
            f"{path}: the columns {table.schema.names} or their types differ from the schema"
            f" {schema.names}. Run 'catimage {stage}' again."
        )
    frame: pd.DataFrame = table.to_pandas()
    return frame
