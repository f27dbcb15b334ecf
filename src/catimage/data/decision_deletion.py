"""Deletion of the rows of users from all files of the decision log."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import Timeout

from catimage.data.decisions import (
    decision_files,
    log_damage_reported,
    log_lock,
    read_file,
    replaced_names,
    write_file,
)
from catimage.errors import InputError

WAIT_SECONDS = 60.0
"""Longest wait for a process that merges files."""


def delete_users(folder: Path, users: Collection[str]) -> tuple[int, int]:
    """Delete the rows of users.

    Each file is replaced atomically, and deleted if no row is left. Replicas may write new files
    meanwhile; they do not merge files. If the process is killed, the remaining files are unchanged,
    and the next call continues.

    Args:
        folder: the folder of the decision log.
        users: hashed ids of users, as in the column ``user``.

    Returns:
        The number of deleted rows, and of the files that contained them. Rows that a merged file
        replaces are not counted twice.

    Raises:
        InputError: a file is damaged, or another process holds the lock for a minute.
    """
    if not folder.is_dir():
        return 0, 0
    try:
        with log_lock(folder, WAIT_SECONDS):
            return _delete_users(folder, pa.array(sorted(users), pa.string()))
    except Timeout as error:
        raise InputError(
            f"{folder}: another process merges files or deletes rows. Wait for that process to end,"
            " then run the command again."
        ) from error


def _delete_users(folder: Path, users: pa.Array) -> tuple[int, int]:
    """Delete the rows of users while the lock is held."""
    files = decision_files(folder)
    replaced = {folder / name for path in files for name in replaced_names(path)}
    n_rows = n_files = 0
    for path in files:
        if deleted := _delete_from(path, users):
            n_rows += 0 if path in replaced else deleted
            n_files += 1
    return n_rows, n_files


def _delete_from(path: Path, users: pa.Array) -> int:
    """Delete the rows of users from one file; return their number.

    A replica may delete the file at the same time, because it is old.
    """
    if not path.exists():
        return 0
    with log_damage_reported(path):
        column = pq.read_table(path, columns=["user"], partitioning=None)["user"]
    theirs = pc.is_in(column, value_set=users)
    number = int(pc.sum(theirs).as_py() or 0)
    if number == len(column):
        path.unlink(missing_ok=True)
    elif number:
        write_file(path, read_file(path).filter(pc.invert(theirs)), replaced_names(path))
    return number
