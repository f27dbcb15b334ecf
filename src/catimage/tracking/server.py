"""The server in ``MLFLOW_TRACKING_URI``: a check that it responds, before MLflow connects to it.

MLflow retries requests to an unreachable server for minutes.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import urlopen

from catimage.errors import InputError, OutageError
from catimage.tracking.local_store import locked_database

SECONDS = 10.0
"""Longest wait for a response of the server."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Default ports of database servers."""


@contextmanager
def remote_store(address: str) -> Iterator[None]:
    """Check that a server responds; lock and check a SQLite database.

    Addresses with other schemes are not checked.

    Args:
        address: the value of ``MLFLOW_TRACKING_URI``.

    Raises:
        OutageError: the server does not respond within ten seconds.
        InputError: the address is invalid, or the database is read-only or damaged.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError("MLFLOW_TRACKING_URI: the value is not a URL. Correct it.") from error
    kind = parts.scheme.partition("+")[0]
    path = address.partition(":///")[2].partition("?")[0]
    if kind == "sqlite" and path not in ("", ":memory:"):
        with locked_database(Path(path)):
            yield
        return
    reachable = True
    if kind in ("http", "https"):
        reachable = bool(host) and _responds(address)
    elif host and kind in _PORTS:
        reachable = _accepts(host, port or _PORTS[kind])
    if not reachable:
        raise OutageError(
            f"MLFLOW_TRACKING_URI: no server responds at {without_password(parts)}. Start the"
            " server, correct the address, or unset the variable to use mlflow.db in the workspace."
        )
    yield


def without_password(parts: SplitResult) -> str:
    """Return an address without the name and the password of a user."""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _responds(address: str) -> bool:
    """Test whether an HTTP server sends any response, through a proxy if one is configured."""
    try:
        urlopen(f"{address.rstrip('/')}/health", timeout=SECONDS).close()
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # MLflow has its own settings of certificates
    except (OSError, HTTPException, ValueError):
        return False
    return True


def _accepts(host: str, port: int) -> bool:
    """Test whether a host accepts connections to a port."""
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError:
        return False
    return True
