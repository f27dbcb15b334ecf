"""Versions of the registered router: their aliases, their tags and their files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from catimage.errors import InputError
from catimage.router import Router
from catimage.tracking.client import MODEL
from catimage.tracking.lock import ConflictError
from catimage.tracking.outages import check_storage

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

DIGEST_TAG = "router_digest"
"""Name of the tag of a model version that stores the digest of the router's files."""
REFERENCE_TAG = "reference"
"""Name of the tag of a promoted version that stores the version of its reference
(:mod:`catimage.tracking.gate`).
"""


def version_with_digest(client: MlflowClient, digest: str) -> ModelVersion | None:
    """Return the newest version of a router with these files, or None if there is none."""
    versions = client.search_model_versions(f"name='{MODEL}' and tags.{DIGEST_TAG}='{digest}'")
    return max(versions, key=lambda v: int(v.version), default=None)


def version_with_alias(client: MlflowClient, alias: str) -> str | None:
    """Return the version that has an alias, or None if no version has it."""
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_registered_model(MODEL).aliases.get(alias)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return None if version is None else str(version)


def move_alias(client: MlflowClient, alias: str, version: str) -> None:
    """Set the alias to a version, which is one atomic request, and read it back.

    Raises:
        ConflictError: another process has set the alias in the meantime.
    """
    client.set_registered_model_alias(MODEL, alias, version)
    found = version_with_alias(client, alias)
    if found != version:
        raise ConflictError(
            f"MLflow: the alias {alias!r} of {MODEL!r} has been moved to version {found} while"
            f" version {version} was being registered. Run 'catimage register' again."
        )


def reference_of(client: MlflowClient, version: str) -> str:
    """Return the version of the reference of a promoted version; by default, this version."""
    return str(client.get_model_version(MODEL, version).tags.get(REFERENCE_TAG, version))


def load_router(version: str, role: str, command: str) -> Router:
    """Load the router of a version.

    Args:
        version: the version.
        role: the role of the version, for the error message.
        command: a call of a client's method that makes the version unnecessary, for the error
            message.

    Raises:
        InputError: the files of the version are missing, or this version of CATImage cannot read
            them.
        OutageError: the storage of the files does not respond.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        model = mlflow.pyfunc.load_model(f"models:/{MODEL}/{version}")
    except (MlflowException, OSError) as error:
        check_storage(f"models:/{MODEL}/{version}", error)
        address = "" if os.environ.get("MLFLOW_TRACKING_URI") else "'sqlite:///mlflow.db'"
        client = f"mlflow.MlflowClient({address})"
        raise InputError(
            f"MLflow: the files of version {version} of {MODEL!r}, the {role}, cannot be found."
            f' Restore them, or run in the workspace: python -c "import mlflow; {client}.{command}"'
        ) from error
    except InputError:
        raise
    except Exception as error:  # MLflow runs the code of the version, which may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        raise InputError(
            f"MLflow: version {version} of {MODEL!r}, the {role}, cannot be loaded ({reason})."
            " Install the versions of CATImage and its libraries that registered it."
        ) from error
    router: Router = model.unwrap_python_model().router
    return router
