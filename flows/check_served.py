"""The flow that checks every day that what is served is what is registered.

Every replica of the service has to serve the champion of the registry, and the files of the
champion have to be those that were registered, so that the next replica can load them. The flow
fails otherwise, and Prefect's automations report a failed run to the webhook. The flow ``monitor``
compares the replicas every hour; it does not download files.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Failed

from catimage.common.proxies import bypass_proxies_for_local_addresses
from catimage.errors import InputError
from catimage.workspace import Workspace

from .artifacts import fact_table
from .monitor import compare_served
from .registration import failed, run_task
from .run_once import run_once, workspace_parser
from .stages import is_transient

LIMIT = 3600.0
"""Longest time of a run in seconds."""


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient, name="check-files")
def check_files(workspace: Path) -> list[str] | State[None]:
    """Download the files of the champion, and compare them with their digest.

    Returns:
        One sentence if the files are missing or altered, or a Failed state.
    """
    from catimage.commands.lineage import check_champion

    try:
        return check_champion(Workspace(workspace))
    except InputError as error:
        return failed("check_served", error)


@flow(name="check_served", description=__doc__, timeout_seconds=LIMIT)
def check_served(workspace: Path = Path()) -> str | State[None]:
    """Compare what is served with what is registered.

    Args:
        workspace: the folder of ``params.yaml``.

    Returns:
        A summary, or a Failed state with the differences.
    """
    bypass_proxies_for_local_addresses()
    checks = {
        "every replica serves the champion": run_task(compare_served, workspace, limit=LIMIT),
        "the files of the champion are intact": run_task(check_files, workspace, limit=LIMIT),
    }
    facts = {name: _problems(state) or "yes" for name, state in checks.items()}
    fact_table("served", "What is served, compared with what is registered", facts)
    problems = [text for text in facts.values() if text != "yes"]
    if problems:
        return Failed(message=f"check_served: {'; '.join(problems)}")
    return "\n".join(f"{name}: {text}" for name, text in facts.items())


def _problems(state: State[list[str]]) -> str:
    """Return the problems that a check has found, or why it could not be run; empty without any."""
    if not state.is_completed():
        return state.message or "the check could not be run"
    return "; ".join(state.result())


def main() -> None:
    """Run the flow once; start a temporary Prefect server if none is configured."""
    arguments = workspace_parser("Check that what is served is registered.").parse_args()
    run_once(lambda: check_served(arguments.workspace, return_state=True))


if __name__ == "__main__":
    main()
