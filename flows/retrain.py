"""Retraining as a Prefect flow: DVC's eight stages one after the other, then MLflow's registry and
its gate.

A task runs ``dvc repro <stage>``, so that what is up to date is DVC's to say (a second where
nothing is to do), and there is one cache, DVC's. Once by hand: ``python flows/retrain.py``; on a
schedule: ``prefect.yaml``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

try:
    from prefect import flow, get_run_logger, task
    from prefect.artifacts import (
        create_link_artifact,
        create_markdown_artifact,
        create_table_artifact,
    )
    from prefect.cache_policies import NO_CACHE
    from prefect.settings import (
        PREFECT_SERVER_ANALYTICS_ENABLED,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
        temporary_settings,
    )
    from prefect.states import Failed, State
except ModuleNotFoundError as missing:
    sys.exit(
        f"catimage: {missing.name} is not installed: pip install 'catimage[flows]', or run 'dvc"
        " repro', which needs no Prefect."
    )

from catimage.errors import InputError
from catimage.evaluation.summary import summary
from catimage.params import load_params
from catimage.tracking.registry import Registered
from catimage.tracking.registry import register as register_router
from catimage.workspace import Workspace

STAGES = ("sample", "generate", "label", "validate", "train", "calibrate", "evaluate", "package")
RETRIES = {"generate": 2, "label": 2}
"""Only what may fail by chance (a device, a disk) is tried again, and goes on where it stopped; a
gate never.
"""
RETRY_DELAY = 10.0
NOISE = re.compile(
    r"To track|To enable|Use `dvc push`|\t|Updating lock|Generating lock|Data and pipelines"
)
"""What DVC says at every call, of which there are eight."""


@task(cache_policy=NO_CACHE)
def repro(stage: str, workspace: Path) -> State | None:
    """Brings one stage, and whatever it needs, up to date; a Failed state says in a sentence why
    that did not work.
    """
    logger = get_run_logger()
    command = [sys.executable, "-m", "dvc", "repro", stage]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        command, cwd=workspace, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            if (
                line.strip()
                and not NOISE.match(line)
                and ("didn't change" not in line or f"'{stage}'" in line)
            ):
                logger.info(line.rstrip())
    if process.returncode == 0:
        return None
    if _busy(workspace):
        return Failed(
            message=(
                f"{stage}: another DVC process is at work in {workspace.resolve()}: wait for it to"
                " end, then run this again."
            )
        )
    return Failed(
        message=(
            f"{stage}: 'dvc repro {stage}' ended with {process.returncode}; its own words are"
            " above."
        )
    )


@task(cache_policy=NO_CACHE)
def register(workspace: Path) -> Registered | State:
    """Logs the run and the router to MLflow, and lets the gate move ``champion``."""
    try:
        return register_router(Workspace(workspace), load_params(workspace / "params.yaml"))
    except InputError as error:
        return Failed(message=f"register: {error}")


@flow(name="retrain", description=__doc__)
def retrain(workspace: Path = Path()) -> str | State:
    """Runs all stages, registers, leaves artifacts; returns the summary, or the Failed state of
    what failed first.
    """
    if find_spec("dvc") is None:
        return Failed(message="DVC is not installed: pip install 'catimage[dvc]'.")
    for stage in STAGES:
        run = repro.with_options(
            name=stage,
            task_run_name=stage,
            retries=RETRIES.get(stage, 0),
            retry_delay_seconds=RETRY_DELAY,
        )
        state = run(stage, workspace, return_state=True)
        if not state.is_completed():
            return Failed(message=state.message)
    registered = register.with_options(task_run_name="register")(workspace, return_state=True)
    if not registered.is_completed():
        return Failed(message=registered.message)
    return _conclude(Workspace(workspace), registered.result())


def _conclude(workspace: Workspace, registered: Registered) -> str:
    """Artifacts for Prefect's page, and the summary for whoever ran it."""
    metrics = json.loads((workspace.reports / "metrics.json").read_text())
    tag = json.loads((workspace.dist / "bento.json").read_text())["tag"]
    rows = metrics["methods"][metrics["budget"]["estimator"]]["by_candidate"]
    create_table_artifact(
        rows,
        key="results",
        description="The router's curve against each fixed candidate, on the test split",
    )
    for name in ("report.html", "validation.json"):
        link = (workspace.reports / name).resolve().as_uri()
        create_link_artifact(link, link_text=f"reports/{name}", key=name.replace(".", "-"))
    standing = "champion" if registered.champion else "challenger; the champion stays"
    text = "\n".join(
        [
            summary(metrics),
            "",
            f"MLflow   router version {registered.version} ({standing}): {registered.reason}",
            f"Bento    {tag}",
            f"Report   {workspace.reports / 'report.html'}",
            """Next     make serve, then: curl localhost:3000/v1/route -d '{"prompt": "two small red rings"}'""",
        ]
    )
    create_markdown_artifact(
        f"```\n{text}\n```", key="summary", description="What the run ended with"
    )
    return text


def _busy(workspace: Path) -> bool:
    """Whether another process holds DVC's lock, or has claimed files in it while a stage of its own
    runs.
    """
    import zc.lockfile
    from dvc.repo import Repo

    folder = Path(Repo.find_root(str(workspace))) / ".dvc" / "tmp"
    claims = folder / "rwlock"
    if claims.exists() and json.loads(claims.read_text() or "{}"):
        return True
    try:
        zc.lockfile.LockFile(str(folder / "lock")).close()
    except zc.lockfile.LockError:
        return True
    return False


def main() -> None:
    """Runs the flow once, with a Prefect server of its own where none is configured."""
    parser = argparse.ArgumentParser(
        description="Retrain: all stages, then MLflow's registry and its gate."
    )
    parser.add_argument(
        "--workspace", type=Path, default=Path(), help="the folder with dvc.yaml and params.yaml"
    )
    workspace = parser.parse_args().workspace
    with temporary_settings(
        {
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        }
    ):
        state = retrain(workspace, return_state=True)
    if not state.is_completed():
        sys.exit(f"catimage: {state.message}")
    print(f"\n{state.result()}", flush=True)


if __name__ == "__main__":
    main()
