"""Outages: which exceptions report that a server or a database does not respond."""

from __future__ import annotations

import sys

from catimage.errors import OutageError

_UNAVAILABLE = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""MLflow's codes of errors that may not occur again."""


def is_outage(error: BaseException) -> bool:
    """Return whether an exception reports that a server or a database does not respond.

    This is the case if the exception or one of its causes does: a connection that fails or takes
    too long, or a server that answers with status 429 or 5xx, because its own database or storage
    does not respond.
    """
    exceptions, cause = _exceptions(), error
    while True:
        if isinstance(cause, exceptions) or getattr(cause, "error_code", None) in _UNAVAILABLE:
            return True
        following = cause.__cause__ or cause.__context__
        if following is None:
            return False
        cause = following


def _exceptions() -> tuple[type[BaseException], ...]:
    """Return the classes of the exceptions; those of AWS's client only if it has been used."""
    import requests
    from sqlalchemy.exc import InterfaceError, OperationalError

    found: list[type[BaseException]] = [OutageError, ConnectionError, TimeoutError]
    found += [requests.exceptions.ConnectionError, requests.Timeout, requests.exceptions.RetryError]
    found += [OperationalError, InterfaceError]
    if aws := sys.modules.get("botocore.exceptions"):
        found += [aws.ConnectionError, aws.HTTPClientError]
    return tuple(found)


def check_storage(address: str, error: Exception) -> None:
    """Raise OutageError if the files of a model cannot be downloaded because of an outage.

    MLflow reports the files as missing if its storage does not respond; their list shows the
    difference.

    Args:
        address: the address of the model, ``models:/...``.
        error: the exception of the download.
    """
    from mlflow.artifacts import list_artifacts
    from mlflow.exceptions import MlflowException

    cause: Exception = error
    if not is_outage(error):
        try:
            list_artifacts(artifact_uri=address)
        except (MlflowException, OSError) as listing:
            cause = listing
    if is_outage(cause):
        raise OutageError(
            f"MLflow: the storage of {address} does not respond. Start it, or run the command again"
            " later."
        ) from cause
