"""Migration of the tables of the shared state from an older schema."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, select, text, update

from catimage.errors import InputError
from catimage.serving.state.database import Database
from catimage.serving.state.tables import SCHEMA_VERSION, keys, meta, metadata

RENAMED_COLUMNS = {(keys.name, "rate"): keys.c.rate_limit.name}
"""New names of columns that schema 1 may have under another name, by table and old name."""
_VERSION = {"name": "schema_version"}


def schema_version(connection: Connection) -> int | None:
    """Return the version of the tables; None if there are none."""
    if not inspect(connection).has_table(meta.name):
        return None
    value = connection.execute(select(meta.c.value).filter_by(**_VERSION)).scalar()
    return None if value is None else int(value)


def check_newer(database: Database, version: int) -> None:
    """Raise InputError if a newer version of CATImage has created the tables."""
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{database.place}: a newer version of CATImage created the tables (schema {version};"
            f" this version has {SCHEMA_VERSION}). Install that version, or use another database."
        )


def set_version(connection: Connection) -> None:
    """Record that the tables have the present schema."""
    connection.execute(update(meta).filter_by(**_VERSION).values(value=str(SCHEMA_VERSION)))


def outdated_columns(connection: Connection) -> list[tuple[str, str]]:
    """Return the columns that have an old name: table and old name."""
    inspector = inspect(connection)
    return [
        (table, old)
        for table, old in RENAMED_COLUMNS
        if inspector.has_table(table)
        and old in {column["name"] for column in inspector.get_columns(table)}
    ]


def migrate(database: Database, apply: bool) -> list[str]:
    """Migrate the tables of an older schema; all steps or none.

    The replicas of the older version must not run meanwhile.

    Args:
        database: the database.
        apply: whether the steps are carried out, and not only listed.

    Returns:
        The steps, each as a text; empty if there are no tables or they have the present schema.

    Raises:
        InputError: a newer version of CATImage has created the tables.
        ServingError: the database cannot be used (503).
    """
    with database.write(durable=True) as connection:
        version = schema_version(connection)
        if version is None:
            return []
        check_newer(database, version)
        if version == SCHEMA_VERSION:
            return []
        steps = [f"schema {version} to {SCHEMA_VERSION}"]
        for table, old in outdated_columns(connection):
            new = RENAMED_COLUMNS[table, old]
            steps.append(f"column {old} of {table} to {new}")
            if apply:
                connection.execute(text(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}"))
        if apply:
            metadata.create_all(connection)
            set_version(connection)
    return steps
