"""The connection to MLflow, and the names of the experiment, the model and the aliases."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from catimage.errors import InputError
from catimage.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

MODEL = "router"
"""Name of the registered model."""
EXPERIMENT = "catimage"
"""Name of the experiment."""
CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases of model versions: the router in production, and the newest router."""


def connect(workspace: Workspace) -> MlflowClient:
    """Connect to the tracking server and select the experiment.

    The address of the server is the value of the environment variable ``MLFLOW_TRACKING_URI``. By
    default, the SQLite database ``mlflow.db`` in the workspace is used. The experiment is created
    if it does not exist.

    Args:
        workspace: the workspace that runs are logged for.

    Returns:
        A client of the server.

    Raises:
        InputError: MLflow is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise InputError(
            "mlflow: the package is not installed. Run pip install 'catimage[mlflow]'."
        ) from error
    logging.getLogger("mlflow").setLevel(logging.ERROR)  # hide the log of created tables
    root, remote = workspace.root.resolve(), os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(remote or f"sqlite:///{root / 'mlflow.db'}")
    client: MlflowClient = mlflow.MlflowClient()
    if client.get_experiment_by_name(EXPERIMENT) is None:
        artifacts = None if remote else (root / "mlruns").as_uri()
        client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    mlflow.set_experiment(EXPERIMENT)
    return client


def newest_version(client: MlflowClient) -> ModelVersion | None:
    """Return the newest version of the registered router, or None if there is no version."""
    versions = client.search_model_versions(f"name='{MODEL}'")
    return max(versions, key=lambda v: int(v.version), default=None)
