"""Schemas of the tables that stages exchange, and functions that read and write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from catimage.common.files import damage_reported
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
DECISIONS = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        ("request_id", pa.string()),
        ("key_id", pa.string()),
        ("user", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("embedding", pa.list_(pa.float16())),
        ("router_version", pa.string()),
        ("scope", pa.string()),
        ("lambda", pa.float64()),
        ("pressure", pa.float64()),
        ("candidate", pa.string()),
        ("propensities", pa.map_(pa.string(), pa.float64())),
        ("qualities", pa.map_(pa.string(), pa.float64())),
        ("shadow", pa.string()),
        ("predicted_quality", pa.float64()),
        ("served", pa.string()),
        ("images", pa.int64()),
        ("cost", pa.float64()),
        ("saved", pa.float64()),
        ("unit", pa.string()),
        ("seconds", pa.float64()),
        ("status", pa.int64()),
        ("score", pa.float64()),
    ]
)
"""The decision log: one row per request that was routed (:mod:`catimage.data.decisions`)."""

REFUSED_COLUMNS = ("prompt_id", "candidate", "seed")
"""The columns of a table of refused images."""


def write_table(
    frame: pd.DataFrame, path: Path, schema: pa.Schema, inputs: Mapping[str, str] | None = None
) -> None:
    """Write ``frame`` as a parquet file with exactly ``schema``.

    The previous file is replaced only after the new one is complete.

    Args:
        frame: the rows.
        path: the file to write.
        schema: the schema.
        inputs: the digests of the files that the table was computed from, which are recorded in the
            metadata of the file; see :mod:`catimage.data.provenance`.

    Raises:
        InputError: a column is missing, is not in the schema, or has another type.
    """
    write_frames([frame], path, schema, inputs)


def write_frames(
    frames: Iterable[pd.DataFrame],
    path: Path,
    schema: pa.Schema,
    inputs: Mapping[str, str] | None = None,
    refused: pd.DataFrame | None = None,
) -> None:
    """Write the rows of several frames as one parquet file; see :func:`write_table`.

    Only one frame has to fit into memory at a time.

    Args:
        frames: the rows.
        path: the file to write.
        schema: the schema.
        inputs: see :func:`write_table`.
        refused: the images that were refused and therefore have no rows, with the columns
            :data:`REFUSED_COLUMNS`; they are recorded in the metadata of the file.

    Raises:
        InputError: a column is missing, is not in the schema, or has another type.
    """
    metadata = {} if inputs is None else {"inputs": json.dumps(inputs)}
    if refused is not None and len(refused):
        metadata["refused"] = json.dumps(refused[list(REFUSED_COLUMNS)].to_numpy().tolist())
    stored = schema.with_metadata(metadata) if metadata else schema
    with replacing(path) as fresh, pq.ParquetWriter(fresh, stored, compression="zstd") as writer:
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
        InputError: the file is missing or damaged, or has other columns or types.
    """
    with damage_reported(path, stage, pa.ArrowException):
        table = pq.read_table(path, partitioning=None)
    if not table.schema.equals(schema):
        raise InputError(
            f"{path}: the columns {table.schema.names} or their types differ from the schema"
            f" {schema.names}. Run 'catimage {stage}' again."
        )
    frame: pd.DataFrame = table.to_pandas()
    return frame


def read_columns(path: Path, stage: str) -> dict[str, list[Any]]:
    """Read the columns of a parquet file that has no fixed schema.

    Args:
        path: the file.
        stage: the stage that writes the file, named in error messages.

    Raises:
        InputError: the file is missing or damaged.
    """
    with damage_reported(path, stage, pa.ArrowException):
        columns: dict[str, list[Any]] = pq.read_table(path, partitioning=None).to_pydict()
    return columns


def read_refused(path: Path, stage: str) -> pd.DataFrame:
    """Return the refused images that a table of scores records.

    Args:
        path: the file.
        stage: the stage that writes the file, named in error messages.

    Returns:
        A table with the columns :data:`REFUSED_COLUMNS`.

    Raises:
        InputError: the file is missing or damaged.
    """
    with damage_reported(path, stage, pa.ArrowException):
        record = (pq.read_schema(path).metadata or {}).get(b"refused", b"[]")
        rows = json.loads(record)
    return pd.DataFrame(rows, columns=list(REFUSED_COLUMNS))


def read_inputs(path: Path, stage: str) -> dict[str, Any] | None:
    """Return the digests of the inputs of a table, which :func:`write_table` recorded.

    Args:
        path: the file.
        stage: the stage that writes the file, named in error messages.

    Returns:
        The digests by the names of the inputs, or None if the table has no record.

    Raises:
        InputError: the file is missing or damaged.
    """
    with damage_reported(path, stage, pa.ArrowException):
        record = (pq.read_schema(path).metadata or {}).get(b"inputs")
        inputs: dict[str, Any] | None = None if record is None else json.loads(record)
    return inputs
