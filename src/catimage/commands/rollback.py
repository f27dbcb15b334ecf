"""Returns to the previous champion, in the registry and in the running service."""

from __future__ import annotations

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


def rollback(workspace: Workspace, timeout: float | None = 60.0) -> RolloutSummary:
    """Make the previous champion the champion again, and verify that every replica serves it.

    If anything fails, the present champion stays, in the registry and in the service.

    Args:
        workspace: the workspace of the registry.
        timeout: seconds to wait for the replicas; None not to wait.

    Raises:
        InputError: there is no previous champion, its files are missing or altered, or a replica
            does not serve it.
        ServingError: the database of the service cannot be used.
    """
    with TemporaryDirectory() as folder, open_state(workspace.root) as state:
        with connection(workspace, "rollback") as client:
            history = champion_history(client)
            if len(history) < 2:
                raise InputError(
                    "champion: there is no previous champion to return to. Promote another version"
                    " with 'catimage promote VERSION'."
                )
            version, replaced = history[-2], history[-1]
            router = download_router(client, version, Path(folder))
            set_champion(client, version, replaced, history[:-1])
        replicas = publish_champion(workspace, state, version, router, history, timeout)
        with connection(workspace, "rollback") as client:
            text = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}, to version {version}"
            client.set_model_version_tag(MODEL, replaced, ROLLBACK_TAG, text)
            write_champion_labels(client, version, workspace)
    reason = f"version {replaced} was rolled back"
    return RolloutSummary(CHAMPION, version, replaced, reason, replicas, timeout is not None)
