"""The connection to the database of the shared state: addresses, transactions and errors."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from catimage.errors import InputError
from catimage.serving.state.failures import cause, place_of, state_unavailable
from catimage.serving.state.files import create_file

VARIABLE = "CATIMAGE_STATE_URL"
"""Environment variable with the address of the database."""
WAIT_SECONDS = 10.0
"""Longest wait for a connection, or for another process that writes."""
CONNECTIONS = 8
"""Connections that a process keeps open; it opens at most twice as many."""
_NETWORK_LIMITS = {
    "connect_timeout": int(WAIT_SECONDS),
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Parameters of libpq: a query ends within half a minute if the server vanishes without a reset."""
_LOCKS = 0x0CA71496
"""First number of the advisory locks in PostgreSQL; the second one is a hash of the name."""


class Database:
    """An engine of SQLAlchemy, with transactions that exclude other writers.

    Attributes:
        engine: the engine.
        place: the database without user name and password, for messages.
        sqlite: whether the database is a SQLite file.
    """

    def __init__(self, url: str) -> None:
        address = parsed(url)
        self.sqlite = address.get_backend_name() == "sqlite"
        self.place = place_of(address)
        self.engine = _sqlite_engine(address) if self.sqlite else _postgresql_engine(address)
        self._driver_error: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        # A process queues its own writers, which is faster than SQLite's waiting in steps.
        self._writer = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads.

        Raises:
            ServingError: the database cannot be used (503).
        """
        with self.errors_reported(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, durable: bool = False) -> Iterator[Connection]:
        """Open a transaction that writes; it is rolled back if the block raises an exception.

        In SQLite no other transaction writes at the same time. In PostgreSQL others do, and the
        block has to lock the rows that it reads (``with_for_update``).

        Args:
            durable: whether SQLite flushes the transaction to disk before the block ends. Without
                it, a loss of power may undo the last transactions; a crash of the process does not.

        Raises:
            ServingError: the database cannot be used (503).
        """
        with self._only_writer(), self.errors_reported(), self.engine.connect() as connection:
            connection = connection.execution_options(catimage_write=True)
            if durable and self.sqlite:
                _set_synchronous(connection, "FULL")
            try:
                with connection.begin():
                    yield connection
            finally:
                if durable and self.sqlite:
                    _set_synchronous(connection, "NORMAL")

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        """Wait until no other thread writes to a SQLite file; raise ServingError after a while."""
        if not self.sqlite:
            yield
            return
        if not self._writer.acquire(timeout=WAIT_SECONDS):
            message = f"{self.place}: other writers have locked the database for too long."
            raise state_unavailable(f"{message} Try again.")
        try:
            yield
        finally:
            self._writer.release()

    def lock(self, connection: Connection, name: str) -> None:
        """Wait in PostgreSQL until no other transaction has the lock ``name``, and take it.

        In SQLite, a transaction that writes excludes all others already.
        """
        if not self.sqlite:
            number = zlib.crc32(name.encode())
            connection.execute(select(func.pg_advisory_xact_lock(_LOCKS, number - 2**31)))

    @contextmanager
    def errors_reported(self) -> Iterator[None]:
        """Raise ServingError (503) if the database cannot be used."""
        try:
            yield
        except (SQLAlchemyError, self._driver_error) as error:
            raise state_unavailable(f"{self.place}: {cause(error)}") from error

    def release_space(self) -> None:
        """Return up to 64 MiB of free pages of a SQLite file to the file system.

        PostgreSQL does so by itself (autovacuum).
        """
        if self.sqlite:
            with self._only_writer(), self.errors_reported(), self.engine.connect() as connection:
                _driver(connection).executescript("PRAGMA incremental_vacuum(16384)")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def parsed(url: str) -> URL:
    """Return the parsed address of a database.

    Raises:
        InputError: the address is invalid, or of an unsupported database.
    """
    example = "Use sqlite:////FOLDER/state.db or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE."
    try:
        address = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InputError(f"{VARIABLE}: the value is not a URL. {example}") from error
    name = address.drivername
    if name in ("postgres", "postgresql"):
        return address.set(drivername="postgresql+psycopg")
    if name not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise InputError(f"{VARIABLE}: the database {name!r} is not supported. {example}")
    if name.startswith("sqlite") and address.database in (None, "", ":memory:"):
        raise InputError(f"{VARIABLE}: a database in memory cannot be shared. {example}")
    return address


def _sqlite_engine(address: URL) -> Engine:
    create_file(address)
    engine = create_engine(
        address,
        connect_args={"timeout": WAIT_SECONDS},
        pool_size=CONNECTIONS,
        max_overflow=CONNECTIONS,
        pool_timeout=WAIT_SECONDS,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("catimage_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgresql_engine(address: URL) -> Engine:
    try:
        engine = create_engine(
            address,
            connect_args={"application_name": "catimage", **_NETWORK_LIMITS},
            pool_size=CONNECTIONS,
            max_overflow=CONNECTIONS,
            pool_timeout=WAIT_SECONDS,
            pool_pre_ping=True,
        )
    except ModuleNotFoundError as error:
        raise InputError(
            "psycopg: the package is not installed. Run pip install 'catimage[postgres]'."
        ) from error

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.execute(f"SET lock_timeout = '{WAIT_SECONDS:.0f}s'")
        connection.execute("SET statement_timeout = '60s'")
        connection.commit()

    return engine


def _set_synchronous(connection: Connection, value: str) -> None:
    """Set the pragma outside a transaction, as SQLite requires."""
    _driver(connection).execute(f"PRAGMA synchronous = {value}")


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
