"""The files of the decision log: their names, writing, merging, deleting and reading.

A file holds the rows of one replica, and its name has the time of the last row. Every file is
complete: it gets its name after it is written and flushed. A merged file records the names of the
files whose rows it contains, which the reader ignores if they still exist.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from catimage.common.files import damage_reported_with_fix
from catimage.common.replacement import remove
from catimage.data.schema import DECISIONS
from catimage.errors import InputError
from catimage.workspace import replacing

_NAME = re.compile(r"decisions-(\d{8}T\d{12})-([A-Za-z0-9_.]+)-(\d+)\.parquet")
_TIME = "%Y%m%dT%H%M%S%f"
_ABANDONED = timedelta(days=1)
"""Age at which a temporary file of a killed process is deleted."""


def write_decisions(
    folder: Path, replica: str, number: int, rows: Sequence[Mapping[str, Any]]
) -> Path:
    """Write rows of the decision log as a new file.

    Args:
        folder: the folder of the decision log; it is created if it does not exist.
        replica: identifier of the replica; characters that file names cannot have are replaced.
        number: a number that the replica has not used before at the same time.
        rows: the rows, at least one.

    Returns:
        The file.
    """
    table = pa.table(
        {
            field.name: pa.array([row[field.name] for row in rows], field.type)
            for field in DECISIONS
        },
        schema=DECISIONS,
    )
    last = max(row["time"] for row in rows)
    return write_file(folder / _file_name(last, replica, number), table, ())


def merge_decisions(folder: Path, replica: str, before: datetime) -> Path | None:
    """Merge the files of a replica whose last row is older than a time into one file.

    Readers see every row exactly once at any time, also after a kill.

    Returns:
        The merged file; None if there are fewer than two files to merge, or another process merges
        files or deletes rows.
    """
    try:
        with log_lock(folder, 0):
            return _merge(folder, replica, before)
    except Timeout:
        return None


@contextmanager
def log_lock(folder: Path, seconds: float) -> Iterator[None]:
    """Hold the lock of the files of a decision log. Writing a new file needs no lock.

    Raises:
        filelock.Timeout: another process holds the lock for longer.
    """
    with FileLock(folder / ".decisions.lock", timeout=seconds):
        yield


def _merge(folder: Path, replica: str, before: datetime) -> Path | None:
    parts = [
        p for p in decision_files(folder) if _part(p, 2) == _safe(replica) and _time(p) < before
    ]
    _delete(_replaced(parts))
    parts = [path for path in parts if path.exists() and not replaced_names(path)]
    if len(parts) < 2:
        return None
    table = pa.concat_tables([read_file(path) for path in parts])
    target = folder / _file_name(_time(parts[-1]), replica, 10**9 + int(_number(parts[-1])))
    merged = write_file(target, table, [path.name for path in parts])
    _delete(parts)
    return merged


def delete_old_decisions(folder: Path, before: datetime) -> int:
    """Delete the files of all replicas whose last row is older than a time.

    Returns:
        The number of deleted files.
    """
    old = [path for path in decision_files(folder) if _time(path) < before]
    _delete(old)
    abandoned = (datetime.now(UTC) - _ABANDONED).timestamp()
    for path in folder.glob(".decisions-*"):
        if path.stat().st_mtime < abandoned:
            remove(path)
    return len(old)


def read_decisions(
    folder: Path, since: datetime | None = None, until: datetime | None = None
) -> pd.DataFrame:
    """Read the decision log of all replicas.

    Args:
        folder: the folder of the decision log.
        since: the time of the first row, inclusive; by default, that of the oldest row.
        until: the time of the last row, exclusive; by default, that of the newest row.

    Returns:
        The rows of :data:`~catimage.data.schema.DECISIONS` in order of time. ``propensities`` and
        ``qualities`` are dictionaries by candidate; ``embedding`` is a float16 array or None; other
        missing values are NaN.

    Raises:
        InputError: a time has no time zone, or a file is damaged or has other columns.
    """
    for name, value in (("since", since), ("until", until)):
        if value is not None and value.tzinfo is None:
            raise InputError(f"{name}: the time has no time zone. Add one, such as UTC.")
    tables = [DECISIONS.empty_table(), *_tables(folder, since)]
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    for column in ("propensities", "qualities"):
        frame[column] = frame[column].map(dict)
    kept = pd.Series(True, frame.index)
    if since is not None:
        kept &= frame["time"] >= since
    if until is not None:
        kept &= frame["time"] < until
    return frame[kept].sort_values("time", kind="stable", ignore_index=True)


def _tables(folder: Path, since: datetime | None) -> list[pa.Table]:
    """Read the files that have rows after a time.

    If another process merges or deletes one of them in the meantime, all are read again.
    """
    while True:
        files = decision_files(folder)
        replaced = _replaced(files)
        wanted = [p for p in files if p not in replaced and (not since or _time(p) >= since)]
        try:
            return [read_file(path) for path in wanted]
        except InputError:
            if all(path.exists() for path in wanted):
                raise


def log_damage_reported(path: Path) -> AbstractContextManager[None]:
    """Raise InputError if the file of the log that the ``with`` block reads is damaged."""
    return damage_reported_with_fix(
        path, "Run the command again.", "Move the file to another folder.", pa.ArrowException
    )


def read_file(path: Path) -> pa.Table:
    """Read the rows of a file.

    Raises:
        InputError: the file is damaged or has other columns.
    """
    with log_damage_reported(path):
        table = pq.read_table(path, partitioning=None)
    if not table.schema.equals(DECISIONS):
        raise InputError(
            f"{path}: the columns or their types differ from the schema of the decision log. Move"
            " the file to another folder."
        )
    return table.replace_schema_metadata(None)


def write_file(path: Path, table: pa.Table, replaces: Sequence[str]) -> Path:
    """Write a file atomically.

    Args:
        path: the file.
        table: its rows.
        replaces: the names of the files whose rows it contains.
    """
    if replaces:
        table = table.replace_schema_metadata({"replaces": json.dumps(list(replaces))})
    with replacing(path) as new:
        pq.write_table(table, new, compression="zstd")
    return path


def replaced_names(path: Path) -> list[str]:
    """Return the names of the files that a merged file replaces; empty for other files."""
    if len(_number(path)) < 10:
        return []
    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        return []
    return list(json.loads(metadata.get(b"replaces", b"[]")))


def _replaced(files: Sequence[Path]) -> set[Path]:
    return {path.parent / name for path in files for name in replaced_names(path)}


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def decision_files(folder: Path) -> list[Path]:
    """Return the complete files in order of time."""
    return sorted(p for p in folder.glob("decisions-*.parquet") if _NAME.fullmatch(p.name))


def _file_name(time: datetime, replica: str, number: int) -> str:
    return f"decisions-{time.astimezone(UTC).strftime(_TIME)}-{_safe(replica)}-{number}.parquet"


def _safe(replica: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]", "_", replica) or "_"


def _part(path: Path, group: int) -> str:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return match[group]


def _time(path: Path) -> datetime:
    return datetime.strptime(_part(path, 1), _TIME).replace(tzinfo=UTC)


def _number(path: Path) -> str:
    return _part(path, 3)
