"""Creation and versions of the tables, and the single values in the table ``catimage_meta``."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from catimage.errors import InputError
from catimage.serving.state.database import WAIT_SECONDS, Database
from catimage.serving.state.migrations import (
    check_newer,
    outdated_columns,
    schema_version,
    set_version,
)
from catimage.serving.state.tables import SCHEMA_VERSION, meta, metadata


def create_tables(database: Database) -> None:
    """Create the tables that do not exist. Several processes may do so at the same time.

    Raises:
        InputError: a newer version of CATImage has created the tables, or an older one whose tables
            have to be migrated.
        ServingError: the database cannot be used (503).
    """
    if database.sqlite:
        with database.errors_reported():
            _use_write_ahead_log(database)
    with database.write(durable=True) as connection:
        database.lock(connection, meta.name)
        version = schema_version(connection)
        if version is None:
            metadata.create_all(connection)
            insert_if_absent(connection, meta, name="schema_version", value=str(SCHEMA_VERSION))
            return
        check_newer(database, version)
        if outdated_columns(connection):
            raise InputError(
                f"{database.place}: an older version of CATImage created the tables (schema"
                f" {version}). Stop its replicas, and run 'catimage upgrade'."
            )
        metadata.create_all(connection)
        if version < SCHEMA_VERSION:
            set_version(connection)
        # A write without effect, which a read-only database refuses.
        insert_if_absent(connection, meta, name="schema_version", value=str(SCHEMA_VERSION))


def _use_write_ahead_log(database: Database) -> None:
    """Switch the file to a write-ahead log, so that readers never wait for a writer.

    SQLite does not wait for other processes that do the same.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            with closing(database.engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
                cursor.execute("PRAGMA journal_mode = WAL")
                return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def insert_if_absent(connection: Connection, table: Table, **values: object) -> bool:
    """Insert a row unless one with its primary key exists; return whether it was inserted."""
    statement = upsert(connection.dialect.name, table).on_conflict_do_nothing()
    options = {"preserve_rowcount": True}  # PostgreSQL's rowcount of an INSERT is -1 otherwise
    return connection.execute(statement, values, execution_options=options).rowcount > 0


def upsert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that accepts ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
