"""Publishes routers to the running service, and waits until every replica serves them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from catimage.errors import InputError
from catimage.serving.state.replicas import Replica
from catimage.serving.state.rollouts import Role, Rollout
from catimage.serving.state.store import State

POLL_SECONDS = 0.2


@contextmanager
def restored_on_failure(state: State, role: Role) -> Iterator[None]:
    """Publish the previous router of a role again if the ``with`` block raises an exception."""
    previous = state.rollouts.current().get(role)
    archive = state.rollouts.archive(previous) if previous else b""
    try:
        yield
    except BaseException:
        if previous is None:
            state.rollouts.clear(role)
        else:
            shadow, share = previous.shadow, previous.share
            version, digest = previous.version, previous.digest
            state.rollouts.publish(role, version, digest, archive, shadow, share)
        raise


def champion_served(rollout: Rollout) -> Callable[[Replica], bool]:
    """Return a check whether a replica serves a published champion."""
    expected = rollout.version, rollout.digest
    return lambda replica: (replica.version, replica.digest) == expected


def challenger_served(rollout: Rollout | None) -> Callable[[Replica], bool]:
    """Return a check whether a replica tries a published challenger; None: no challenger."""
    if rollout is None:
        return lambda replica: not replica.challenger
    expected = rollout.version, rollout.digest, rollout.shadow, rollout.share
    return lambda r: (r.challenger, r.challenger_digest, r.shadow, r.share) == expected


def wait_for_replicas(
    state: State, served: Callable[[Replica], bool], rollout: Rollout | None, seconds: float
) -> list[Replica]:
    """Wait until every live replica serves what was published.

    Args:
        state: the shared state.
        served: whether a replica does.
        rollout: what was published; None if a role was cleared.
        seconds: maximum time.

    Returns:
        The live replicas; empty if no service runs.

    Raises:
        InputError: a replica cannot use the router, or the time is over.
    """
    end = time.monotonic() + seconds
    while True:
        replicas = state.replicas.live()
        late = [replica for replica in replicas if not served(replica)]
        if not late:
            return replicas
        for replica in late:
            if rollout and replica.seen >= rollout.published and _concerns(replica, rollout):
                raise InputError(f"replica {replica.replica_id}: {replica.problem}")
        if time.monotonic() >= end:
            names = ", ".join(f"{r.replica_id} (version {r.version})" for r in late)
            raise InputError(
                f"service: {len(late)} of {len(replicas)} replicas did not change over within"
                f" {seconds:g} s: {names}. See their logs, or give more time with --timeout."
            )
        time.sleep(POLL_SECONDS)


def _concerns(replica: Replica, rollout: Rollout) -> bool:
    """Return whether the problem that a replica reports is about a published router."""
    return f"{rollout.role}: version {rollout.version} " in replica.problem
