"""Promotes a registered router to champion, in the registry and in the running service."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from catimage.commands.keys import open_state
from catimage.commands.rollout import RolloutSummary, waited
from catimage.errors import InputError
from catimage.params import Params
from catimage.serving.rollout.archive import pack
from catimage.serving.rollout.publication import champion_served, restored_on_failure
from catimage.serving.state.rollouts import Rollout
from catimage.serving.state.store import State
from catimage.tracking.champions import champion_history, remove_champion, set_champion
from catimage.tracking.client import CHAMPION, connection
from catimage.tracking.label_history import write_champion_labels
from catimage.tracking.promotion import gated_promotion, settle
from catimage.tracking.router_files import download_router, find_version, registered_digest
from catimage.tracking.versions import version_with_alias
from catimage.workspace import Workspace


def promote(
    workspace: Workspace,
    params: Params,
    version: str | None,
    force: str | None = None,
    timeout: float | None = 60.0,
) -> RolloutSummary:
    """Make a version the champion, publish it, and verify that every replica serves it.

    If anything fails, the previous champion is restored, in the registry and in the service.

    Args:
        workspace: the workspace, whose gate prompts the promotion gate reads.
        params: the parameters of the workspace.
        version: the version; by default that with the alias ``challenger``.
        force: the reason to promote a version that the gate does not promote.
        timeout: seconds to wait for the replicas; None not to wait.

    Raises:
        InputError: the gate does not promote the version, its files are missing or altered, the
            champion has been changed by another process, or a replica does not serve the version.
        ServingError: the database of the service cannot be used.
    """
    with TemporaryDirectory() as folder, open_state(workspace.root) as state:
        with connection(workspace, "promote") as client:
            version = find_version(client, version)
            router = download_router(client, version, Path(folder))
            decide = partial(gated_promotion, client, version, workspace, params, force)
            promotion = settle(client, version, decide(), decide)
            history = champion_history(client)
        if promotion.champion != version or _is_unfinished(state, history):
            history = history[:-1]
        replicas = publish_champion(workspace, state, version, router, history, timeout)
        _end_trial_of(state, version)
        with connection(workspace, "promote") as client:
            write_champion_labels(client, version, workspace)
    reason, previous = promotion.decision.reason, promotion.champion or ""
    return RolloutSummary(CHAMPION, version, previous, reason, replicas, timeout is not None)


def _is_unfinished(state: State, history: list[str]) -> bool:
    """Return whether the service still has the champion before, after a promotion that was killed.

    If the version cannot be published now either, this champion is restored.
    """
    published = state.rollouts.current().get("champion")
    return published is not None and history[-2:-1] == [published.version]


def publish_champion(
    workspace: Workspace,
    state: State,
    version: str,
    router: Path,
    history: list[str],
    timeout: float | None,
) -> tuple[str, ...]:
    """Publish the champion of the registry, and verify that every replica serves it.

    Args:
        workspace: the workspace of the registry.
        state: the shared state of the service.
        version: the new champion.
        router: the folder of its files.
        history: the champions before, which are restored if anything fails.
        timeout: seconds to wait for the replicas; None not to wait.

    Returns:
        The identifiers of the replicas.
    """
    try:
        with restored_on_failure(state, "champion"):
            archive = pack(router)
            with connection(workspace, "promote") as client:
                digest = registered_digest(client, version)
            rollout = state.rollouts.publish("champion", version, digest, archive)
            replicas = waited(state, champion_served(rollout), rollout, timeout)
            _verify(workspace, rollout)
    except BaseException:
        _restore_alias(workspace, version, history)
        raise
    return replicas


def _verify(workspace: Workspace, rollout: Rollout) -> None:
    """Raise InputError if what was published is not what the registry has as champion."""
    with connection(workspace, "promote") as client:
        champion = version_with_alias(client, CHAMPION)
        digest = registered_digest(client, champion) if champion else ""
    if (champion, digest) != (rollout.version, rollout.digest):
        raise InputError(
            f"MLflow: the champion is version {champion or 'none'}, and version {rollout.version}"
            " was published: another process has changed it. Run the command again."
        )


def _restore_alias(workspace: Workspace, version: str, history: list[str]) -> None:
    """Give the alias back to the champion before, unless another process has moved it."""
    with connection(workspace, "promote") as client:
        if version_with_alias(client, CHAMPION) != version or history[-1:] == [version]:
            return
        if history:
            set_champion(client, history[-1], version, history)
        else:
            remove_champion(client, version)


def _end_trial_of(state: State, version: str) -> None:
    """End the trial of a challenger that is now the champion."""
    challenger = state.rollouts.current().get("challenger")
    if challenger is not None and challenger.version == version:
        state.rollouts.clear("challenger")
