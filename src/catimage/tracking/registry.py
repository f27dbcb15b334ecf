"""MLflow, and the only place that knows it: a run of what was built, the router as a model version,
and its aliases.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import warnings
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from catimage.common.hashing import folder_digest
from catimage.data.missing_labels import complete_rows
from catimage.data.schema import PROMPTS, SCORES, read_table
from catimage.errors import InputError
from catimage.params import Params
from catimage.router import Router
from catimage.stages.train import split_labels
from catimage.tracking.gate import Verdict, judge
from catimage.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

NAME = "router"
EXPERIMENT = "catimage"
REQUIRED = (
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
"""Pinned in the model: what reads a stored estimator must be what wrote it. A folder's ``catimage``
is installed from its repository.
"""


@dataclass(frozen=True)
class Registered:
    """What :func:`register` did: the run, the router's model version, whether that is the champion
    now, and why (or why not).
    """

    run_id: str
    version: str
    champion: bool
    reason: str


def register(workspace: Workspace, params: Params) -> Registered:
    """Logs what was built as a run and the router as a model version ``challenger``, then lets the
    gate move ``champion``.

    The same router again (by its files) makes no new version; the gate judges it again. MLflow is
    ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` (sqlite) in the workspace.

    Raises:
        InputError: MLflow is not installed, a stage has not run, or the champion's files cannot be
            read.
    """
    router = Router.load(workspace.router)
    metrics = _metrics(workspace)
    client = _connect(workspace)
    found = _newest(client)
    if found is None or found.tags.get("router_digest") != folder_digest(workspace.router):
        found = _log(client, workspace, params, router, metrics)
    client.set_registered_model_alias(NAME, "challenger", found.version)
    verdict = _gate(client, found.version, router, workspace, params)
    client.set_model_version_tag(NAME, found.version, "gate", verdict.reason)
    if verdict.moves:
        client.set_registered_model_alias(NAME, "champion", found.version)
    return Registered(str(found.run_id), str(found.version), verdict.moves, verdict.reason)


def _connect(workspace: Workspace) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise InputError("MLflow is not installed: pip install 'catimage[mlflow]'.") from error
    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it reports every table that it makes
    root, remote = workspace.root.resolve(), os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(remote or f"sqlite:///{root / 'mlflow.db'}")
    client: MlflowClient = mlflow.MlflowClient()
    if client.get_experiment_by_name(EXPERIMENT) is None:
        client.create_experiment(
            EXPERIMENT, artifact_location=None if remote else (root / "mlruns").as_uri()
        )
    mlflow.set_experiment(EXPERIMENT)
    return client


def _newest(client: MlflowClient) -> ModelVersion | None:
    versions = client.search_model_versions(f"name='{NAME}'")
    return max(versions, key=lambda v: int(v.version), default=None)


def _log(
    client: MlflowClient,
    workspace: Workspace,
    params: Params,
    router: Router,
    metrics: dict[str, Any],
) -> ModelVersion:
    """One run with everything about it, and the router as a new model version."""
    import mlflow

    with mlflow.start_run():
        mlflow.log_params(flat(params.model_dump(mode="json", by_alias=True)))
        mlflow.log_metrics(figures(metrics))
        mlflow.set_tags(_tags(workspace))
        for path in (
            workspace.reports / "metrics.json",
            workspace.reports / "report.html",
            workspace.root / "dvc.lock",
        ):
            if path.exists():
                mlflow.log_artifact(str(path))
        _log_model(workspace, router)
    found = _newest(client)
    assert found is not None
    client.set_model_version_tag(
        NAME, found.version, "router_digest", folder_digest(workspace.router)
    )
    return found


def _log_model(workspace: Workspace, router: Router) -> None:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    columns = [
        ("string", "prompt"),
        ("string", "candidate"),
        ("double", "cost"),
        ("double", "predicted_quality"),
        ("double", "lambda"),
    ]
    signature = ModelSignature(
        inputs=Schema([ColSpec("string", "prompt")]),
        outputs=Schema([ColSpec(kind, name) for kind, name in columns]),
        params=ParamSchema(
            [ParamSpec("budget", "double", None), ParamSpec("lambda", "double", None)]
        ),
    )
    with warnings.catch_warnings(
        action="ignore", category=UserWarning
    ):  # it wants an example to guess the signature that it is given
        mlflow.pyfunc.log_model(
            name=NAME,
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"router": str(workspace.router)},
            pip_requirements=[f"{package}=={installed(package)}" for package in REQUIRED],
            signature=signature,
            registered_model_name=NAME,
            metadata={
                "estimator": router.estimator_name,
                "metric": router.metric,
                "cost_unit": router.cost_unit,
                "pool": router.pool,
            },
        )


def _gate(
    client: MlflowClient, version: str, router: Router, workspace: Workspace, params: Params
) -> Verdict:
    import mlflow
    from mlflow.exceptions import MlflowException

    champion = client.get_registered_model(NAME).aliases.get("champion")
    if champion is None:
        return Verdict(True, "there was no champion")
    if str(champion) == str(version):
        return Verdict(True, "it is the champion already")
    try:
        rival: Router = (
            mlflow.pyfunc.load_model(f"models:/{NAME}@champion").unwrap_python_model().router
        )
    except (MlflowException, OSError) as error:
        raise InputError(
            f"The champion, version {champion} of {NAME!r}, cannot be read ({error}): mend or"
            " delete its alias."
        ) from error
    except InputError as error:  # an older CATImage wrote it: this one could not serve it either
        return Verdict(True, f"the champion cannot be compared: {error}")
    prompts, scores = (
        read_table(workspace.prompts, PROMPTS, "sample"),
        read_table(workspace.scores, SCORES, "label"),
    )
    texts, labels = split_labels(prompts, scores, "test", router.metric, router.candidates, params)
    whole = complete_rows(labels)
    return judge(rival, router, texts[whole].tolist(), labels[whole])


def _metrics(workspace: Workspace) -> dict[str, Any]:
    path = workspace.reports / "metrics.json"
    if not path.exists():
        raise InputError(f"{path} is not there: run 'catimage evaluate' first.")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def _tags(workspace: Workspace) -> dict[str, str]:
    """Where it comes from: the git SHA, the md5s of params.yaml and dvc.lock and of each output in
    it, and the Bento's tag.
    """
    tags: dict[str, str] = {}
    if shutil.which("git"):
        git = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=workspace.root, capture_output=True, text=True
        )
        tags |= {"mlflow.source.git.commit": git.stdout.strip()} if git.returncode == 0 else {}
    lock = workspace.root / "dvc.lock"
    for path in (workspace.params, lock):
        if path.exists():
            tags[f"md5.{path.name}"] = hashlib.md5(
                path.read_bytes(), usedforsecurity=False
            ).hexdigest()
    if lock.exists():
        stages = yaml.safe_load(lock.read_text())["stages"].values()
        tags |= {
            f"md5.{out['path']}": out["md5"] for stage in stages for out in stage.get("outs", [])
        }
    bento = workspace.dist / "bento.json"
    return tags | ({"bento": json.loads(bento.read_text())["tag"]} if bento.exists() else {})


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; lists stay whole, as JSON; what is None is left out."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            out[prefix + key] = json.dumps(value) if isinstance(value, list) else value
    return out


def figures(metrics: dict[str, Any]) -> dict[str, float]:
    """The numbers of ``metrics.json`` worth comparing between runs: the budget's, the best
    single's, each estimator's honest ones.
    """
    chosen = {
        "budget": metrics["budget"],
        "best_single": metrics["best_single"],
        "oracle_quality": metrics["oracle_quality"],
    }
    for name, method in metrics["methods"].items():
        chosen[name] = {k: method[k] for k in ("mean_curve_quality", "max_quality")} | {
            "selected": method["selected"]
        }
    numbers = {
        k: float(v)
        for k, v in flat(chosen).items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    }
    return {k: v for k, v in numbers.items() if not k.startswith("fixed.")}
