"""The connection to MLflow, and the names of the experiment, the model and the aliases."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from catimage.errors import InputError, OutageError
from catimage.tracking.local_store import local_store
from catimage.tracking.outages import is_outage
from catimage.tracking.server import remote_store, without_password
from catimage.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_REMOTE = "$MLFLOW_TRACKING_URI"
MODEL = "router"
"""Name of the registered model."""
EXPERIMENT = "catimage"
"""Name of the experiment."""
CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases of model versions: the router in production, and the router registered last."""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_UV_AUTO_DETECT": "false",
}
"""Defaults of MLflow's environment variables. Three retries take half a minute. A ``uv.lock`` in
the current folder does not describe the requirements of a router.
"""


@contextmanager
def connection(workspace: Workspace, command: str = "register") -> Iterator[MlflowClient]:
    """Connect to the tracking server and select the experiment.

    The address of the server is that in ``MLFLOW_TRACKING_URI``, by default that of the SQLite
    database ``mlflow.db`` in the workspace. Inside the ``with`` block, no other process can
    register a router in that database. The experiment is created, or restored if it was deleted.

    Args:
        workspace: the workspace that runs are logged for.
        command: the command to run again, for error messages.

    Yields:
        A client of the server.

    Raises:
        InputError: MLflow is not installed, the database cannot be used, or a request of the
            ``with`` block fails.
        OutageError: the server, its database or its storage does not respond.
    """
    mlflow = _configured_mlflow()
    root, remote = workspace.root.resolve(), os.environ.get("MLFLOW_TRACKING_URI")
    if remote:
        with (
            remote_store(remote),
            _errors_reported(without_password(urlsplit(remote)), Path(), _REMOTE, command),
        ):
            yield _client(mlflow, remote, None)
        return
    with (
        local_store(root, EXPERIMENT) as address,
        _errors_reported(str(root / "mlflow.db"), root, "sqlite:///mlflow.db", command),
    ):
        yield _client(mlflow, address, (root / "mlruns").as_uri())


def _configured_mlflow() -> Any:
    """Return the module ``mlflow``, with the settings of this project."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise InputError(
            "mlflow: the package is not installed. Run pip install 'catimage[mlflow]'."
        ) from error
    logging.getLogger("mlflow").setLevel(logging.ERROR)  # hide the log of created tables
    return mlflow


def _client(mlflow: Any, address: str, artifacts: str | None) -> MlflowClient:
    """Return a client of a server, after selecting, creating or restoring the experiment.

    Args:
        mlflow: the module.
        address: the address of the server.
        artifacts: the address of the artifacts of a new experiment; None for that of the server.
    """
    mlflow.set_tracking_uri(address)
    if artifacts is not None:  # MLflow sets the variable, which would apply to other workspaces
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    client: MlflowClient = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        try:
            client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # created by another process
                raise
    elif experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
        print(f"register: restored the deleted experiment {EXPERIMENT!r} of MLflow", flush=True)
    mlflow.set_experiment(EXPERIMENT)
    return client


@contextmanager
def _errors_reported(place: str, folder: Path, address: str, command: str) -> Iterator[None]:
    """Raise InputError if a request to MLflow fails.

    Args:
        place: the database or the address of the server, for error messages.
        folder: the folder in which ``address`` is valid.
        address: the address of the server, for commands.
        command: the command to run again.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        text = str(error)
        if "out-of-date database schema" in text:
            raise InputError(
                f"{place}: another version of MLflow wrote it. Copy it, then run 'mlflow db upgrade"
                f" {address}' in {folder.resolve()}; or install that version."
            ) from error
        reason = text.splitlines()[0].rstrip(".") if text else type(error).__name__
        kind = OutageError if is_outage(error) else InputError
        raise kind(
            f"{place}: a request of MLflow failed ({reason}). Correct the cause, then run 'catimage"
            f" {command}' again."
        ) from error
