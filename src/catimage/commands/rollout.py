"""What the commands that change the routers of the service share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from catimage.serving.rollout.publication import wait_for_replicas
from catimage.serving.state.replicas import Replica
from catimage.serving.state.rollouts import Rollout
from catimage.serving.state.store import State


@dataclass(frozen=True)
class RolloutSummary:
    """The result of a command that changes the routers of the service.

    Attributes:
        role: ``champion`` or ``challenger``.
        version: the version that has the role; empty if none has it.
        previous: the version that had the role before; empty if none had it.
        reason: why the version has the role.
        replicas: the replicas that serve it; empty if no service runs, or they were not waited for.
        waited: whether the replicas were waited for.
    """

    role: str
    version: str
    previous: str
    reason: str
    replicas: tuple[str, ...]
    waited: bool


def waited(
    state: State, served: Callable[[Replica], bool], rollout: Rollout | None, timeout: float | None
) -> tuple[str, ...]:
    """Wait until every replica serves what was published; return their identifiers.

    Args:
        state: the shared state.
        served: whether a replica does.
        rollout: what was published; None if a role was cleared.
        timeout: seconds to wait; None not to wait.

    Raises:
        InputError: a replica cannot use the router, or the time is over.
    """
    if timeout is None:
        return ()
    return tuple(r.replica_id for r in wait_for_replicas(state, served, rollout, timeout))
