"""The tasks that exchange data with the DVC remote, if an environment variable names one."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from catimage.commands.data_remote import configured_remote, pull, push
from catimage.errors import InputError
from catimage.workspace import Workspace

from .registration import failed
from .stages import is_transient


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient)
def pull_data(workspace: Path) -> State[None] | None:
    """Download the outputs in ``dvc.lock`` that this machine lacks; nothing without a remote.

    Returns:
        None, or a Failed state with the reason.
    """
    try:
        if remote := configured_remote():
            for path in pull(Workspace(workspace), remote):
                get_run_logger().info("downloaded %s from %s", path, remote.address)
    except InputError as error:
        return failed("pull", error)
    return None


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient)
def push_data(workspace: Path) -> State[None] | None:
    """Upload the outputs in ``dvc.lock``; nothing without a remote.

    Returns:
        None, or a Failed state with the reason.
    """
    try:
        if remote := configured_remote():
            files = push(Workspace(workspace), remote)
            get_run_logger().info("uploaded %d files to %s", files, remote.address)
    except InputError as error:
        return failed("push", error)
    return None
