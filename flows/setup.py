"""Prepares a Prefect server for the flows: ``python -m flows.setup``, as often as you like.

The command creates or updates the work pools with their concurrency limits, the automations, the
block of the webhook, and the deployments of ``prefect.yaml``. The webhook is the address in
``CATIMAGE_ALERT_WEBHOOK``; it gets ``{"text": ...}`` by POST, which Slack, Mattermost and others
accept. The address of the server is that in ``PREFECT_API_URL``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from catimage.common.proxies import bypass_proxies_for_local_addresses
from catimage.errors import InputError

from .automations import apply, automations

WEBHOOK_VARIABLE = "CATIMAGE_ALERT_WEBHOOK"
"""The environment variable with the address that is notified."""
BLOCK = "catimage-alerts"
"""The name of the block with this address."""
POOLS = {"catimage-cpu": 4, "catimage-gpu": 1}
"""The work pools, and the number of runs that each executes at once."""


def set_up(project: Path, deploy: bool = True) -> list[str]:
    """Create or update everything that the flows need on the server.

    Args:
        project: the folder of ``prefect.yaml``.
        deploy: whether the deployments of ``prefect.yaml`` are created.

    Returns:
        What was done, one sentence per object.

    Raises:
        InputError: no server is configured, or the deployments cannot be created.
    """
    if get_current_settings().api.url is None:
        raise InputError(
            "PREFECT_API_URL: not set. Start a server with 'prefect server start', and set the"
            " variable to its address, such as http://127.0.0.1:4200/api."
        )
    with get_client(sync_client=True) as client:
        done = [_pool(client, name, limit) for name, limit in POOLS.items()]
    webhook = _webhook()
    done.append(
        f"{WEBHOOK_VARIABLE} is not set: failures and drift are reported to nobody"
        if webhook is None
        else f"saved the webhook as the block {BLOCK!r}"
    )
    done += [apply(core) for core in automations(webhook)]
    if deploy:
        _deploy(project)
        done.append(f"created the deployments of {project / 'prefect.yaml'}")
    return done


def _pool(client: SyncPrefectClient, name: str, limit: int) -> str:
    """Create a work pool of processes, or set the limit of an existing one."""
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        pool = WorkPoolCreate(name=name, type="process", concurrency_limit=limit)
        client.create_work_pool(pool)
        return f"created the work pool {name!r} for {limit} runs at once"
    client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
    return f"updated the work pool {name!r} for {limit} runs at once"


def _webhook() -> UUID | None:
    """Save the block of the webhook; return its identifier, None without an address."""
    address = os.environ.get(WEBHOOK_VARIABLE)
    if not address:
        return None
    block = Webhook(url=address, headers={"Content-Type": "application/json"})
    return cast("UUID", block.save(BLOCK, overwrite=True))


def _deploy(project: Path) -> None:
    """Create the deployments of ``prefect.yaml``.

    Raises:
        InputError: Prefect reports an error.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True)
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise InputError(
            f"{project / 'prefect.yaml'}: Prefect cannot create the deployments"
            f" ({lines[-1] if lines else 'no message'}). Correct it, and run the command again."
        )


def main() -> None:
    """Set up the server, and print what was done."""
    parser = argparse.ArgumentParser(description="Prepare a Prefect server for the flows.")
    parser.add_argument("--project", type=Path, default=Path(), help="the folder with prefect.yaml")
    parser.add_argument(
        "--no-deploy", action="store_true", help="leave the deployments as they are"
    )
    arguments = parser.parse_args()
    bypass_proxies_for_local_addresses()
    try:
        done = set_up(arguments.project, not arguments.no_deploy)
    except InputError as error:
        sys.exit(f"catimage: {error}")
    print("\n".join(done))


if __name__ == "__main__":
    main()
