"""Returns to the previous champion, in the registry and in the running service."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from catimage.commands.keys import open_state
from catimage.commands.promote import publish_champion
from catimage.commands.rollout import RolloutSummary
from catimage.errors import InputError
from catimage.tracking.champions import champion_history, set_champion
from catimage.tracking.client import CHAMPION, MODEL, connection
from catimage.tracking.label_history import write_champion_labels
from catimage.tracking.router_files import download_router
from catimage.workspace import Workspace

ROLLBACK_TAG = "rolled_back"
"""Name of the tag of a version that a rollback has replaced: the time and the new champion."""


@dataclass(frozen=True)
class RollbackPlan:
    """What a rollback does; with the same plan it can be repeated after an outage.

    Attributes:
        version: the previous champion, which becomes the champion again.
        replaced: the present champion.
    """

    version: str
    replaced: str


def plan_rollback(workspace: Workspace) -> RollbackPlan:
    """Return the present and the previous champion.

    Raises:
        InputError: there is no previous champion, or the registry cannot be used.
    """
    with connection(workspace, "rollback") as client:
        history = champion_history(client)
    if len(history) < 2:
        raise InputError(
            "champion: there is no previous champion to return to. Promote another version with"
            " 'catimage promote VERSION'."
        )
    return RollbackPlan(history[-2], history[-1])


def rollback(
    workspace: Workspace, timeout: float | None = 60.0, plan: RollbackPlan | None = None
) -> RolloutSummary:
    """Make the previous champion the champion again, and verify that every replica serves it.

    If anything fails, the present champion stays, in the registry and in the service.

    Args:
        workspace: the workspace of the registry.
        timeout: seconds to wait for the replicas; None not to wait.
        plan: the two champions, by default those of now. If an earlier attempt with this plan has
            moved the alias, the rest is done.

    Raises:
        InputError: there is no previous champion, its files are missing or altered, another process
            has changed the champion, or a replica does not serve it.
        ServingError: the database of the service cannot be used.
    """
    version, replaced = astuple(plan or plan_rollback(workspace))
    with TemporaryDirectory() as folder, open_state(workspace.root) as state:
        with connection(workspace, "rollback") as client:
            router = download_router(client, version, Path(folder))
            history = champion_history(client)
            if plan is not None and history[-1:] == [version]:  # by an earlier attempt
                history = [*history, replaced]
            else:
                set_champion(client, version, replaced, history[:-1])
        replicas = publish_champion(workspace, state, version, router, history, timeout)
        with connection(workspace, "rollback") as client:
            text = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}, to version {version}"
            client.set_model_version_tag(MODEL, replaced, ROLLBACK_TAG, text)
            write_champion_labels(client, version, workspace)
    reason = f"version {replaced} was rolled back"
    return RolloutSummary(CHAMPION, version, replaced, reason, replicas, timeout is not None)
