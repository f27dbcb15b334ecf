"""The flow that adds labels for a new candidate of the pool, or for a new metric.

A candidate is added as by ``catimage add-candidate``: a few hundred prompts are generated and
scored, and the trained estimators are extended. A metric is added to ``label.metrics`` of
``params.yaml``, and existing images get its scores. Existing labels are kept in both cases. The
next run of ``retrain`` trains on all labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock, Timeout
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Cancelled, Failed
from pydantic import Field

from catimage.common.proxies import bypass_proxies_for_local_addresses
from catimage.data.schema import SCORES, read_table
from catimage.errors import InputError
from catimage.metrics.registry import declaration
from catimage.params.editing import read_tree, save_params
from catimage.params.loading import parse_params
from catimage.workspace import Workspace

from .artifacts import fact_table
from .dvc_process import run_command
from .preflight import check_parameters
from .retrain import LOCK
from .run_once import run_once, workspace_parser
from .stages import TIMEOUT_HOURS, TRANSIENT, Hours, is_transient, run_stage

ADD_CANDIDATE = "import sys; from catimage.cli.app import main; sys.exit(main())"
"""The command line of CATImage, for ``python -c``."""
RETRIES, RETRY_DELAY = 2, 10.0
"""Retries of a transient failure while images are generated, and seconds between them."""
Count = Annotated[int, Field(ge=1)]
"""A number of prompts."""


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient, name="add-candidate")
def add_candidate(
    workspace: Path, candidate: str, prompts: Count, score_all_splits: bool, timeout_hours: Hours
) -> State[None] | None:
    """Run ``catimage add-candidate``; a retry continues with the images that are missing.

    Returns:
        None if the command succeeds, otherwise a Failed state with the reason.
    """
    options = ["--prompts", str(prompts), *(["--score-all-splits"] if score_all_splits else [])]
    outcome = run_command(
        ["-c", ADD_CANDIDATE, "add-candidate", candidate, *options],
        workspace,
        timeout_hours * 3600,
        get_run_logger().info,
    )
    if outcome.status == 0:
        return None
    if outcome.timed_out:
        return Failed(message=f"add-candidate: not finished after {timeout_hours:g} hours.")
    transient = outcome.status < 0 or outcome.status == 1
    message = f"add-candidate: exited with status {outcome.status}. See its output above."
    return Failed(message=message, name=TRANSIENT if transient else "Failed")


@flow(name="backfill", description=__doc__)
def backfill(
    workspace: Path = Path(),
    candidate: str | None = None,
    metric: str | None = None,
    prompts: Count = 200,
    score_all_splits: bool = True,
    timeout_hours: Hours = 48.0,
) -> str | State[None]:
    """Add the labels of a candidate or of a metric.

    Args:
        workspace: the folder of ``dvc.yaml`` and ``params.yaml``.
        candidate: the name of a new candidate of the pool.
        metric: the name of a new metric.
        prompts: number of training prompts whose images of the candidate are generated.
        score_all_splits: whether images of the prompts of the other splits are generated too;
            ``evaluate`` needs those of the test split.
        timeout_hours: the longest time of each step.

    Returns:
        A summary, a Failed state with the reason, or a Cancelled state if another flow is working
        in the workspace.
    """
    bypass_proxies_for_local_addresses()
    if (candidate is None) == (metric is None):
        return Failed(message="backfill: give a candidate or a metric, and not both.")
    lock = workspace / LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            state = (
                _add_candidate(workspace, candidate, prompts, score_all_splits, timeout_hours)
                if candidate is not None
                else _add_metric(workspace, str(metric), timeout_hours)
            )
            return state if state is not None else _summary(workspace, candidate or str(metric))
    except Timeout:
        message = f"{workspace.resolve()}: another flow is running. This run has done nothing."
        return Cancelled(message=message, name="Skipped")


def _add_candidate(
    workspace: Path, name: str, prompts: int, score_all_splits: bool, hours: float
) -> State[None] | None:
    """Add a candidate, then evaluate; return the state of a failed task."""
    run = add_candidate.with_options(retries=RETRIES, retry_delay_seconds=RETRY_DELAY)
    state = run(workspace, name, prompts, score_all_splits, hours, return_state=True)
    return _failure(state) or _stages(workspace, ("evaluate",), hours)


def _add_metric(workspace: Path, name: str, hours: float) -> State[None] | None:
    """Add a metric to the parameters, then label and validate; return the state of a failed task.

    If the metric is unknown or its weights are missing, ``params.yaml`` is not changed.
    """
    path = workspace / "params.yaml"
    try:
        tree = read_tree(path)
        label = parse_params(tree, "params.yaml").label
        declaration(name, label)
        if name not in (metrics := list(label.metrics)):
            tree.setdefault("label", {})["metrics"] = [*metrics, name]
            parse_params(tree, "params.yaml")
            _save_checked(tree, path)
    except InputError as error:
        return Failed(message=f"backfill: {error}")
    return _stages(workspace, ("label", "validate"), hours)


def _save_checked(tree: dict[str, object], path: Path) -> None:
    """Write parameters, and restore the previous ones if a dry run finds a problem."""
    before = path.read_bytes()
    save_params(tree, path)
    try:
        check_parameters(Workspace(path.parent))
    except InputError:
        path.write_bytes(before)
        raise


def _stages(workspace: Path, stages: tuple[str, ...], hours: float) -> State[None] | None:
    for stage in stages:
        limit = min(hours, TIMEOUT_HOURS[stage])
        if failure := _failure(run_stage(stage, workspace, limit)):
            return failure
    return None


def _failure(state: State[Any]) -> State[None] | None:
    return None if state.is_completed() else Failed(message=state.message)


def _summary(workspace: Path, name: str) -> str:
    """Create the table of the labels; return the summary."""
    scores = read_table(Workspace(workspace).scores, SCORES, "label")
    counts = scores.groupby(["metric", "candidate"]).size().reset_index(name="n")
    rows = counts.itertuples(index=False)
    facts = {f"{metric} of {candidate}": n for metric, candidate, n in rows}
    fact_table("labels", f"Scores after the backfill of {name}", facts)
    return f"backfill: added {name}; the next retrain trains on {len(scores):,} scores"


def main() -> None:
    """Run the flow once; start a temporary Prefect server if none is configured."""
    parser = workspace_parser("Add labels of a new candidate or metric.")
    parser.add_argument("--candidate", help="a new candidate of the pool")
    parser.add_argument("--metric", help="a new metric")
    parser.add_argument("--prompts", type=int, default=200, help="number of training prompts")
    arguments = parser.parse_args()
    run_once(
        lambda: backfill(
            arguments.workspace,
            arguments.candidate,
            arguments.metric,
            arguments.prompts,
            return_state=True,
        )
    )


if __name__ == "__main__":
    main()
