"""The table of audits, ``data/audits.parquet``: logged prompts generated again and scored."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from catimage.data.schema import read_table, write_table

AUDITS = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        ("request_id", pa.string()),
        ("prompt_id", pa.string()),
        ("router_version", pa.string()),
        ("candidate", pa.string()),
        ("selected", pa.bool_()),
        ("seed", pa.int64()),
        ("metric", pa.string()),
        ("predicted", pa.float64()),
        ("score", pa.float64()),
    ]
)
"""One row per image. ``time`` is that of the request; ``selected`` is whether the router selected
the candidate; ``predicted`` is the logged prediction (higher is better), and ``score`` is the score
by the metric as it is."""
KEY = ["time", "request_id", "candidate", "seed", "metric"]
"""The columns that identify an audited image."""


def read_audits(path: Path) -> pd.DataFrame:
    """Read the table; without a file, it has no rows.

    Raises:
        InputError: the file is damaged or has other columns.
    """
    if not path.exists():
        frame: pd.DataFrame = AUDITS.empty_table().to_pandas()
        return frame
    return read_table(path, AUDITS, "monitor")


def add_audits(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Add rows to the table; rows of images that it already has replace the earlier ones.

    Args:
        path: the file, which need not exist.
        rows: the rows.

    Returns:
        The whole table, in order of time.

    Raises:
        InputError: the file is damaged or has other columns.
    """
    if rows.empty:
        return read_audits(path)
    earlier = read_audits(path)
    table = pd.concat([earlier, rows]) if len(earlier) else rows
    table = table.drop_duplicates(KEY, keep="last").sort_values(KEY, ignore_index=True)
    write_table(table, path, AUDITS)
    return table
