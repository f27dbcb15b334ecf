"""The one schema of every table that crosses a stage; all reading and writing goes through here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from catimage.errors import InputError
from catimage.workspace import replacing

SPLITS = ("train", "val", "test")

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
    """Writes ``frame`` as parquet in exactly ``schema``; the old file stays until the new one is
    whole.

    Raises:
        InputError: a column is missing, one too many, or of another type.
    """
    write_frames([frame], path, schema)


def write_frames(frames: Iterable[pd.DataFrame], path: Path, schema: pa.Schema) -> None:
    """Writes a table a frame at a time, as :func:`write_table`: the whole of it never has to be
    held.
    """
    with replacing(path) as fresh, pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
        for frame in frames:
            writer.write_table(_fitting(frame, path, schema))


def _fitting(frame: pd.DataFrame, path: Path, schema: pa.Schema) -> pa.Table:
    extra, missing = set(frame.columns) - set(schema.names), set(schema.names) - set(frame.columns)
    if extra or missing:
        raise InputError(
            f"{path}: columns missing {sorted(missing)}, not in the schema {sorted(extra)}."
        )
    try:
        return pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"{path}: the table does not fit its schema: {error}.") from error


def read_table(path: Path, schema: pa.Schema, made_by: str) -> pd.DataFrame:
    """Reads a table and checks that it has ``schema``; ``made_by`` is the stage to name where the
    file is missing.

    Raises:
        InputError: the file is missing, not parquet, or has other columns.
    """
    if not path.exists():
        raise InputError(f"{path} is not there: run 'catimage {made_by}' first.")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path} is not a readable parquet file ({error}): run 'catimage {made_by}' again."
        ) from error
    if not table.schema.equals(schema):
        raise InputError(
            f"{path} has the columns {table.schema.names}, not {schema.names}: run 'catimage"
            f" {made_by}' again."
        )
    frame: pd.DataFrame = table.to_pandas()
    return frame


def scores_array(
    scores: pd.DataFrame, metric: str, prompt_ids: list[str], candidates: list[str]
) -> np.ndarray:
    """Scores of one metric by seed: float64 (n_prompts, n_candidates, n_seeds), NaN where a score
    is missing.

    Raises:
        InputError: the table has no score of ``metric``.
    """
    rows = scores[
        (scores["metric"] == metric)
        & scores["prompt_id"].isin(prompt_ids)
        & scores["candidate"].isin(candidates)
    ]
    if rows.empty:
        known = sorted(scores["metric"].unique())
        raise InputError(
            f"scores: no score of the metric {metric!r} for these prompts; the metrics there are"
            f" {known}."
        )
    seeds = np.sort(rows["seed"].unique())
    out = np.full((len(prompt_ids), len(candidates), len(seeds)), np.nan)
    i = pd.Index(prompt_ids).get_indexer(pd.Index(rows["prompt_id"]))
    j = pd.Index(candidates).get_indexer(pd.Index(rows["candidate"]))
    out[i, j, np.searchsorted(seeds, rows["seed"])] = rows["value"]
    return out


def labels_of(by_seed: np.ndarray, lower_is_better: bool = False, whole: bool = True) -> np.ndarray:
    """Labels (mean over the seeds present) from :func:`scores_array`: (n_prompts, n_candidates),
    higher is better.

    Args:
        whole: whether a prompt must have a score for each candidate; otherwise its label is NaN
            where it has none.

    Raises:
        InputError: a prompt has no score at all for a candidate, and ``whole``.
    """
    count = (~np.isnan(by_seed)).sum(axis=2)
    if whole and not count.all():
        holes = int((count == 0).any(axis=1).sum())
        mend = "run 'catimage label' again, drop them, or set validate.complete_labels to false"
        raise InputError(f"scores: {holes} prompts lack a score for some candidate: {mend}.")
    mean: np.ndarray = np.nansum(by_seed, axis=2) / np.where(count, count, np.nan)
    return -mean if lower_is_better else mean


def costs_of(candidates: pd.DataFrame, unit: str) -> tuple[list[str], np.ndarray]:
    """Names and costs (float64) of the candidates in one unit, cheapest first (ties by name).

    Raises:
        InputError: no candidate has a cost in ``unit``.
    """
    rows = candidates[candidates["unit"] == unit].sort_values(["cost", "candidate"])
    if rows.empty:
        known = sorted(candidates["unit"].unique())
        raise InputError(
            f"candidates: no cost in the unit {unit!r}; set cost_unit in params.yaml to one of"
            f" {known}."
        )
    return rows["candidate"].tolist(), rows["cost"].to_numpy(float)
