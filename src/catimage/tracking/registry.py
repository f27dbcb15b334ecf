"""Registration of a calibrated router in MLflow.

A registration logs a run, creates a model version and sets the aliases ``challenger`` (the version
that was registered last) and ``champion`` (the version in production).
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from catimage.common.hashing import folder_digest
from catimage.common.wheel import build_wheel, pinned
from catimage.data.provenance import METRICS, Provenance
from catimage.evaluation.router_folder import load_calibrated_router
from catimage.params import Params
from catimage.router import Router
from catimage.tracking.champions import set_challenger
from catimage.tracking.client import MODEL, connection
from catimage.tracking.label_history import log_labels, write_champion_labels
from catimage.tracking.lineage import lineage_tags, read_metrics, run_metrics, run_params
from catimage.tracking.promotion import Promotion, decide, settle
from catimage.tracking.versions import DIGEST_TAG, version_with_digest
from catimage.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.models import ModelSignature


@dataclass(frozen=True)
class RegistrationResult:
    """The result of :func:`register`.

    Attributes:
        run_id: the id of the MLflow run.
        version: the model version of the router.
        champion: whether this version is now the champion.
        reason: the reason why this version is or is not the champion.
        blocked: whether the champion could not be read, so that a person has to decide.
        promotable: whether the gate promotes the version, and it is not the champion yet.
    """

    run_id: str
    version: str
    champion: bool
    reason: str
    blocked: bool = False
    promotable: bool = False


_REGISTRATION = threading.Lock()
"""MLflow's tracking URI and active run are global, so one thread at a time registers a router."""


def register(workspace: Workspace, params: Params, hold: bool = False) -> RegistrationResult:
    """Log the workspace as a run and the router as a model version, and apply the promotion gate.

    The version gets the alias ``challenger``. The promotion gate
    (:mod:`catimage.tracking.gate`) decides whether it also gets the alias ``champion``. For a
    router whose files are registered, no new version is created, but the gate is applied again.

    Args:
        workspace: a workspace with a calibrated and evaluated router.
        params: the parameters of the workspace.
        hold: whether the champion stays unchanged, as with ``promote.approval``.

    Returns:
        The model version and the decision of the gate.

    Raises:
        InputError: MLflow is not installed, its database cannot be used, or a stage has not run
            since its inputs changed.
        OutageError: MLflow, its database or its storage does not respond.
    """
    provenance = Provenance(workspace)
    router = load_calibrated_router(workspace, provenance, params.metric, params.cost_unit)
    metrics = run_metrics(read_metrics(workspace))
    provenance.check(METRICS)
    tags = lineage_tags(workspace)
    digest = folder_digest(workspace.router)
    with _REGISTRATION, connection(workspace) as client:
        existing = version_with_digest(client, digest)
        version = str(existing.version) if existing else None
        promotion = decide(client, version, router, workspace, params)
        if version is None:
            version = _log_run(workspace, params, router, metrics, tags, digest)
        set_challenger(client, version)
        held = hold or params.promote.approval
        again = partial(decide, client, version, router, workspace, params)
        promotion = settle(client, version, promotion, again, held)
        if promotion.decision.promoted and not held:
            write_champion_labels(client, version, workspace)
        run_id = str(client.get_model_version(MODEL, version).run_id)
    return _result(run_id, version, promotion, held)


def _result(run_id: str, version: str, promotion: Promotion, held: bool) -> RegistrationResult:
    """Return the result of a registration."""
    decision = promotion.decision
    champion = promotion.champion == version or (decision.promoted and not held)
    return RegistrationResult(
        run_id,
        version,
        champion,
        decision.reason,
        blocked=decision.blocked,
        promotable=decision.promoted and not champion,
    )


def _log_run(
    workspace: Workspace,
    params: Params,
    router: Router,
    metrics: dict[str, float],
    tags: dict[str, str],
    digest: str,
) -> str:
    """Log a run with parameters, metrics, tags, reports and the router.

    Returns:
        The new model version.
    """
    import mlflow

    reports = workspace.reports
    files = (
        workspace.params,
        workspace.root / "dvc.lock",
        reports / "metrics.json",
        reports / "report.html",
    )
    with mlflow.start_run():
        mlflow.log_params(run_params(params.model_dump(mode="json", by_alias=True)))
        mlflow.log_metrics(metrics)
        mlflow.set_tags(tags)
        for path in files:
            if path.exists():
                mlflow.log_artifact(str(path))
        log_labels(workspace)
        return _log_model(workspace, router, digest)


def _log_model(workspace: Workspace, router: Router, digest: str) -> str:
    """Log the router as a pyfunc model from code, without pickle; return its version.

    The wheel of the running code is an artifact of the model, and the first of its requirements:
    MLflow resolves relative paths in the requirements against the model's folder.
    """
    import mlflow

    from catimage.estimators.portable import encoder_models, reader_packages

    # Ignore the warning of MLflow that a signature without an input example cannot be checked.
    with TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        wheel = build_wheel(Path(folder))
        packages = (*reader_packages(encoder_models(workspace.router)), "mlflow")
        info = mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"router": workspace.router.resolve().as_uri(), "wheel": wheel.as_uri()},
            pip_requirements=[f"artifacts/{wheel.name}", *pinned(*packages)],
            signature=_signature(),
            registered_model_name=MODEL,
            tags={DIGEST_TAG: digest},
            metadata={
                "estimator": router.estimator_name,
                "metric": router.metric,
                "cost_unit": router.cost_unit,
                "pool": router.pool,
            },
        )
    return str(info.registered_model_version)


def _signature() -> ModelSignature:
    """Return the input columns, the output columns and the parameters of the model."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    params = {"budget": "double", "lambda": "double", "seed": "long"}
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
        params=ParamSchema([ParamSpec(name, kind, None) for name, kind in params.items()]),
    )
