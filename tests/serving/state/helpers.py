"""A clock, a count of queries, and calls in threads and in processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, text

from catimage.serving.state.database import Database


class Clock:
    """A clock that a test sets; it begins on 27 November 2026 (UTC)."""

    def __init__(self) -> None:
        self.now = 1_795_780_000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def counted_queries(database: Database) -> Iterator[list[str]]:
    """Collect the statements that a database executes."""
    statements: list[str] = []

    def collect(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", collect)
    yield statements
    event.remove(database.engine, "before_cursor_execute", collect)


@contextmanager
def outage(database: Database, table: str) -> Iterator[None]:
    """Rename a table, so that queries of it fail."""
    with database.write() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO hidden_table"))
    yield
    with database.write() as connection:
        connection.execute(text(f"ALTER TABLE hidden_table RENAME TO {table}"))


def in_threads(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    """Call a function in eight threads; return the results in the order of the calls."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda arguments: function(*arguments), calls))


class Processes:
    """Two other processes."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))

    def call(self, function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
        """Call a function in both processes at the same time; return the results."""
        return [f.result(60) for f in [self.pool.submit(function, *call) for call in calls]]
