"""The SQLite database ``mlflow.db`` and the artifacts ``mlruns/`` of a workspace.

MLflow retries for two minutes if the database cannot be opened, and records absolute paths of
artifacts. The database is therefore checked before MLflow opens it, and the paths are changed if
the workspace has been moved or copied.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from catimage.errors import InputError
from catimage.workspace import check_free_space

LOCATIONS = ("artifact_location", "artifact_uri", "source", "storage_location")
"""Columns of MLflow's tables that contain the absolute paths of artifacts."""
LOCK_SECONDS, BUSY_SECONDS = 600.0, 30.0
"""Longest waits for another registration, and for another process that writes to the database."""
_RESERVED = frozenset("?%")
"""Characters that separate or encode parts of the address of a database."""
MIN_SPACE = 64 * 1024**2
"""Free space that a registration needs at most, in bytes: the database, the router, the wheel."""


@contextmanager
def local_store(root: Path, experiment: str) -> Iterator[str]:
    """Lock and check the database of a workspace.

    Args:
        root: the absolute path of the workspace.
        experiment: the name of the experiment whose artifacts are in ``mlruns/``.

    Yields:
        The address of the database for MLflow.

    Raises:
        OSError: the disk has less than :data:`MIN_SPACE` bytes of free space.
        InputError: the workspace is read-only, the database is damaged or in use, or another
            registration is running.
    """
    check_free_space(root, MIN_SPACE)
    database = root / "mlflow.db"
    with locked_database(database), _address(database) as address:
        move_artifacts(database, experiment, root / "mlruns")
        yield address


@contextmanager
def locked_database(path: Path) -> Iterator[None]:
    """Check a SQLite database, and exclude other registrations in it during the ``with`` block.

    MLflow does not create its tables correctly if two processes do this at the same time, and it
    cannot compare and move an alias in one request.

    Raises:
        InputError: the database is read-only, damaged or in use, or another registration is
            running.
    """
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise InputError(
            f"{path}: another registration is running. Wait for it to end, then run 'catimage"
            " register' again."
        ) from error
    except OSError as error:
        raise InputError(_not_writable(path)) from error
    try:
        check_database(path)
        yield
    finally:
        lock.release()


def check_database(path: Path) -> None:
    """Check that a SQLite database can be read and written; create an empty file if there is none.

    Raises:
        InputError: it is read-only, damaged, or in use.
    """
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA user_version = {version}")  # fails if it is read-only
            connection.rollback()
    except sqlite3.DatabaseError as error:
        code = error.sqlite_errorname
        if code.startswith("SQLITE_BUSY"):
            reason = f"{path}: another process is writing to it. Run the command again."
        elif code in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            reason = _damaged(path)
        else:
            reason = _not_writable(path)
        raise InputError(reason) from error
    if result != "ok":
        raise InputError(_damaged(path))


def _damaged(path: Path) -> str:
    return (
        f"{path}: the database is damaged. Restore it from a backup, or rename it to start a new"
        " registry."
    )


def _not_writable(path: Path) -> str:
    return (
        f"{path}: cannot be written. Make it writable, or set MLFLOW_TRACKING_URI to the address of"
        " an MLflow server."
    )


def move_artifacts(database: Path, experiment: str, artifacts: Path) -> None:
    """Make the paths of artifacts start with ``artifacts``, if the workspace was moved or copied.

    A workspace is moved or copied if the artifacts of the experiment were in another folder with
    the same name, and the folder ``artifacts`` exists.

    Args:
        database: the SQLite database.
        experiment: the name of the experiment.
        artifacts: the absolute path of the folder of the artifacts.
    """
    with closing(sqlite3.connect(database)) as connection, connection:
        columns = connection.execute(
            "SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p"
            " WHERE m.type = 'table'"
        ).fetchall()
        if ("experiments", "artifact_location") not in columns:
            return  # MLflow has not created its tables yet
        row = connection.execute(
            "SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)
        ).fetchone()
        old, new = (row[0] if row else ""), artifacts.as_uri()
        location = urlsplit(old)
        if old == new or location.scheme != "file" or not artifacts.is_dir():
            return
        if Path(unquote(location.path)).name != artifacts.name:
            return
        for table, column in columns:
            if column in LOCATIONS:
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?)'
                    f' WHERE "{column}" = ? OR substr("{column}", 1, ?) = ?',
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )


@contextmanager
def _address(database: Path) -> Iterator[str]:
    """Yield the address of a database, by a symbolic link if its path has reserved characters.

    Versions of SQLAlchemy differ in whether they decode the path, and MLflow does not decode it.
    """
    if not _RESERVED & set(str(database)):
        yield f"sqlite:///{database}"
        return
    with TemporaryDirectory(prefix="catimage-") as folder:
        link = Path(folder) / "workspace"
        link.symlink_to(database.parent, target_is_directory=True)
        yield f"sqlite:///{link / database.name}"
