"""Registration of a calibrated router in MLflow.

A registration logs a run, creates a model version and sets the aliases ``challenger`` (the newest
version) and ``champion`` (the version in production).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from catimage.common.hashing import folder_digest
from catimage.params import Params
from catimage.router import Router
from catimage.tracking.client import CHALLENGER, CHAMPION, MODEL, connect, newest_version
from catimage.tracking.gate import gate_decision
from catimage.tracking.lineage import flatten, lineage_tags, read_metrics, run_metrics
from catimage.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

DIGEST_TAG = "router_digest"
"""Name of the tag of a model version that stores the digest of the router's files."""
REQUIREMENTS = (
    "catimage",
    "mlflow",
    "numpy",
    "open_clip_torch",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "skops",
    "torch",
)
"""Packages whose installed versions are pinned in the model, because a stored estimator must be
loaded with the versions that it was saved with.
"""


@dataclass(frozen=True)
class RegistrationResult:
    """The result of :func:`register`.

    Attributes:
        run_id: the id of the MLflow run.
        version: the model version of the router.
        champion: whether this version is now the champion.
        reason: the reason why this version is or is not the champion.
    """

    run_id: str
    version: str
    champion: bool
    reason: str


def register(workspace: Workspace, params: Params) -> RegistrationResult:
    """Log the workspace as a run and the router as a model version, and apply the promotion gate.

    The version gets the alias ``challenger``. The promotion gate
    (:mod:`catimage.tracking.gate`) decides whether it also gets the alias ``champion``. For a
    router whose files are unchanged, no new version is created, but the gate is applied again.

    Args:
        workspace: a workspace with a calibrated and evaluated router.
        params: the parameters of the workspace.

    Returns:
        The model version and the decision of the gate.

    Raises:
        InputError: MLflow is not installed, a stage has not run, or the champion cannot be read.
    """
    router = Router.load(workspace.router)
    metrics = run_metrics(read_metrics(workspace))
    client = connect(workspace)
    version = newest_version(client)
    if version is None or version.tags.get(DIGEST_TAG) != folder_digest(workspace.router):
        version = _log_run(client, workspace, params, router, metrics)
    client.set_registered_model_alias(MODEL, CHALLENGER, version.version)
    decision = gate_decision(client, version.version, router, workspace, params)
    client.set_model_version_tag(MODEL, version.version, "gate", decision.reason)
    if decision.promoted:
        client.set_registered_model_alias(MODEL, CHAMPION, version.version)
    return RegistrationResult(
        str(version.run_id), str(version.version), decision.promoted, decision.reason
    )


def _log_run(
    client: MlflowClient,
    workspace: Workspace,
    params: Params,
    router: Router,
    metrics: dict[str, float],
) -> ModelVersion:
    """Log a run with parameters, metrics, tags, reports and the router.

    Returns:
        The new model version.
    """
    import mlflow

    reports = workspace.reports
    files = (reports / "metrics.json", reports / "report.html", workspace.root / "dvc.lock")
    with mlflow.start_run():
        mlflow.log_params(flatten(params.model_dump(mode="json", by_alias=True)))
        mlflow.log_metrics(metrics)
        mlflow.set_tags(lineage_tags(workspace))
        for path in files:
            if path.exists():
                mlflow.log_artifact(str(path))
        _log_model(workspace, router)
    version = newest_version(client)
    assert version is not None
    client.set_model_version_tag(
        MODEL, version.version, DIGEST_TAG, folder_digest(workspace.router)
    )
    return version


def _log_model(workspace: Workspace, router: Router) -> None:
    """Log the router as a pyfunc model from code, without pickle."""
    import mlflow

    # Ignore the warning of MLflow that a signature without an input example cannot be checked.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"router": str(workspace.router)},
            pip_requirements=[f"{name}=={installed_version(name)}" for name in REQUIREMENTS],
            signature=_signature(),
            registered_model_name=MODEL,
            metadata={
                "estimator": router.estimator_name,
                "metric": router.metric,
                "cost_unit": router.cost_unit,
                "pool": router.pool,
            },
        )


def _signature() -> ModelSignature:
    """Return the input columns, the output columns and the parameters of the model."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    outputs = {
        "prompt": "string",
        "candidate": "string",
        "cost": "double",
        "predicted_quality": "double",
        "lambda": "double",
    }
    return ModelSignature(
        inputs=Schema([ColSpec("string", "prompt")]),
        outputs=Schema([ColSpec(kind, name) for name, kind in outputs.items()]),
        params=ParamSchema([ParamSpec(name, "double", None) for name in ("budget", "lambda")]),
    )
