"""The tables in ``data/traffic/``, which ``catimage intake`` takes from the decision log.

The decision log grows, loses old files, and differs between machines. A stage that read it would
give other results each time. ``catimage intake`` therefore copies what the stages need to two
tables, which only it and :func:`forget_users` change: prompts that were taken stay when the log is
deleted, and the same tables give the same results. The folder is an output of the DVC stage
``sources``, so that DVC versions it.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pyarrow as pa

from catimage.data.schema import read_table, write_table
from catimage.data.shards.lock import write_lock
from catimage.workspace import Workspace

TRAFFIC_PROMPTS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("users", pa.list_(pa.string())),
        ("time", pa.timestamp("us", tz="UTC")),
        ("taken", pa.timestamp("us", tz="UTC")),
        ("similarity", pa.float64()),
    ]
)
"""Prompts that were taken from the decision log, in the order in which they were taken: the hashed
ids of the users who sent them, the time of the newest request and of the intake, and the highest
similarity to a prompt that was in the workspace before (NaN if there was none)."""

OUTCOMES = pa.schema(
    [
        ("request_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("user", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("candidate", pa.string()),
        ("propensities", pa.map_(pa.string(), pa.float64())),
        ("cost", pa.float64()),
        ("unit", pa.string()),
        ("metric", pa.string()),
        ("score", pa.float64()),
    ]
)
"""Requests whose image was scored: the candidate that made it, the probability with which each
candidate was selected, the cost of one image, and the score of the image by a metric."""


def read_traffic(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """Read a table of ``data/traffic/``.

    Args:
        path: the file.
        schema: :data:`TRAFFIC_PROMPTS` or :data:`OUTCOMES`.

    Returns:
        The rows; none if the file does not exist. ``users`` are lists and ``propensities``
        dictionaries by candidate.

    Raises:
        InputError: the file is damaged or has other columns.
    """
    if not path.exists():
        frame: pd.DataFrame = schema.empty_table().to_pandas()
    else:
        frame = read_table(path, schema, "intake")
    for column, convert in (("users", list), ("propensities", dict)):
        if column in frame:
            frame[column] = pd.Series([convert(v) for v in frame[column]], frame.index, object)
    return frame


def write_traffic(frame: pd.DataFrame, path: Path, schema: pa.Schema) -> None:
    """Write a table of ``data/traffic/``, which :func:`read_traffic` returned and a caller changed.

    The caller holds the lock of the folder (``write_lock(workspace.traffic)``).
    """
    if "propensities" in frame:
        items = pd.Series([list(v.items()) for v in frame["propensities"]], frame.index, object)
        frame = frame.assign(propensities=items)
    write_table(frame, path, schema)


def forget_users(workspace: Workspace, users: Collection[str]) -> int:
    """Delete the prompts and the outcomes of users from ``data/traffic/``.

    A prompt that several users sent is deleted if one of them is listed. Delete the rows of the
    decision log first: an intake that runs in between would take the prompts again. The next run of
    the stages removes the prompts from all other tables; ``dvc gc`` removes old versions.

    Args:
        workspace: the workspace.
        users: hashed ids of users, as in the column ``user`` of the decision log.

    Returns:
        The number of deleted rows of both tables.

    Raises:
        InputError: a table is damaged, or an intake is running in this workspace.
    """
    forgotten, deleted = set(users), 0
    with write_lock(workspace.traffic):
        for path, schema in (
            (workspace.traffic_prompts, TRAFFIC_PROMPTS),
            (workspace.outcomes, OUTCOMES),
        ):
            frame = read_traffic(path, schema)
            if "users" in frame:
                kept = [forgotten.isdisjoint(senders) for senders in frame["users"]]
            else:
                kept = [user not in forgotten for user in frame["user"]]
            if not all(kept):
                write_traffic(frame[kept], path, schema)
                deleted += len(kept) - sum(kept)
    return deleted
