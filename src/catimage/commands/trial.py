"""Tries a registered router in the running service, as shadow or canary, without promoting it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from catimage.commands.keys import open_state
from catimage.commands.rollout import RolloutSummary, waited
from catimage.errors import InputError
from catimage.serving.rollout.archive import pack
from catimage.serving.rollout.publication import challenger_served, restored_on_failure
from catimage.tracking.client import CHAMPION, connection
from catimage.tracking.router_files import download_router, find_version, registered_digest
from catimage.tracking.versions import version_with_alias
from catimage.workspace import Workspace


def try_challenger(
    workspace: Workspace,
    version: str | None,
    shadow: bool,
    share: float,
    timeout: float | None = 60.0,
) -> RolloutSummary:
    """Publish a version as challenger: it shadows the champion, or serves a share of the requests.

    The champion and the registry's aliases do not change.

    Args:
        workspace: the workspace of the registry.
        version: the version; by default that with the alias ``challenger``.
        shadow: whether the choice of the challenger is logged while the champion serves.
        share: share of the requests that the challenger serves, from 0 to 1.
        timeout: seconds to wait for the replicas; None not to wait.

    Raises:
        InputError: the version is the champion, its files are missing or altered, or a replica
            cannot use it; the previous challenger stays.
        ServingError: the database of the service cannot be used.
    """
    with TemporaryDirectory() as folder, open_state(workspace.root) as state:
        with connection(workspace, "promote") as client:
            version = find_version(client, version)
            if version == version_with_alias(client, CHAMPION):
                raise InputError(f"version {version}: it is the champion. Give another version.")
            router = download_router(client, version, Path(folder))
            digest = registered_digest(client, version)
        previous = state.rollouts.current().get("challenger")
        with restored_on_failure(state, "challenger"):
            archive = pack(router)
            rollout = state.rollouts.publish("challenger", version, digest, archive, shadow, share)
            replicas = waited(state, challenger_served(rollout), rollout, timeout)
    reason = f"serves {share:.1%} of the requests" if share else "decides without effect (shadow)"
    before = previous.version if previous else ""
    return RolloutSummary("challenger", version, before, reason, replicas, timeout is not None)


def end_trial(workspace: Workspace, timeout: float | None = 60.0) -> RolloutSummary:
    """End the trial of the challenger.

    Args:
        workspace: the workspace of the service.
        timeout: seconds to wait for the replicas; None not to wait.

    Raises:
        InputError: no challenger is being tried, or a replica does not end it in time.
        ServingError: the database of the service cannot be used.
    """
    with open_state(workspace.root) as state:
        previous = state.rollouts.current().get("challenger")
        if previous is None:
            raise InputError(
                "challenger: no version is being tried. Start with 'catimage promote VERSION"
                " --shadow' or '--canary SHARE'."
            )
        state.rollouts.clear("challenger")
        replicas = waited(state, challenger_served(None), None, timeout)
    return RolloutSummary(
        "challenger", "", previous.version, "ended", replicas, timeout is not None
    )
