"""Messages about a database that cannot be used, without the password in its address."""

from __future__ import annotations

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from catimage.serving.messages import ServingError

STATE_UNAVAILABLE = "state_unavailable"
"""The code of an error of the database that the replicas share."""
_PROBLEMS = {
    "readonly database": "the database is read-only. Correct the permissions or the address.",
    "read-only transaction": "the database is read-only. Give the address of the primary server.",
    "disk is full": "the disk is full. Free space.",
    "no space left": "the disk is full. Free space.",
    "not a database": "the file is not a SQLite database. Give another file, or remove it.",
    "malformed": "the SQLite database is damaged. Restore a backup, or remove the file.",
    "no such table": "a table is missing. Restart the service, which creates it.",
    "database is locked": "another process has locked the database for too long. Try again.",
    "unable to open": "the file cannot be opened. Correct the path or the permissions.",
    "password authentication failed": "the server refused the user name or the password."
    " Correct them.",
    "does not exist": "the database, table or role does not exist. Create it, or correct the"
    " address.",
    "too many clients": "the server has no free connection. Raise its max_connections, or run"
    " fewer replicas.",
    "permission denied": "the user lacks a permission. Grant it all permissions on the database.",
    "lock timeout": "another process has locked a row for too long. Try again.",
}
"""Messages of the drivers, and the problem and fix that replace each of them."""


def state_unavailable(message: str) -> ServingError:
    """Return the error of a request that needs a database that cannot be used."""
    return ServingError(message, 503, STATE_UNAVAILABLE, retry_after=5.0)


def place_of(address: URL) -> str:
    """Return the path of a SQLite database, or the address of a server without credentials."""
    if address.get_backend_name() == "sqlite":
        return address.database or "sqlite"
    host = address.host or address.query.get("host") or "localhost"
    port = f":{address.port}" if address.port else ""
    return f"postgresql://{host}{port}/{address.database or ''}"


def cause(error: Exception) -> str:
    """Return the problem and its fix; never SQL, parameters or an address with a password."""
    if isinstance(error, PoolTimeoutError):
        return "no connection became free in time. Try again, or run more replicas."
    original = error.orig if isinstance(error, DBAPIError) else error
    text = "" if isinstance(original, SQLAlchemyError) else str(original)
    for part, problem in _PROBLEMS.items():
        if part in text.lower():
            return problem
    if isinstance(error, DBAPIError) and _disconnected(error, text.lower()):
        return "the server does not respond. Start it, or correct the address."
    return f"a query failed ({type(original).__name__}). See the log of the database."


def _disconnected(error: DBAPIError, text: str) -> bool:
    return error.connection_invalidated or "connect" in text
