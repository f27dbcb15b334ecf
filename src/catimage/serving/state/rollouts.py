"""The routers that all replicas load: the champion, and a challenger that shadows or shares."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, insert, select

from catimage.serving.messages import ServingError
from catimage.serving.state.database import Database
from catimage.serving.state.tables import rollouts

Role = Literal["champion", "challenger"]


@dataclass(frozen=True)
class Rollout:
    """A published router, without its archive.

    Attributes:
        role: ``champion`` or ``challenger``.
        version: version of the router in the registry.
        digest: digest of the router's folder, as the registry gives it.
        shadow: whether the challenger only decides, while the champion serves.
        share: share of the requests that the challenger serves.
        published: time of publication, in seconds since the epoch.
        sha256: SHA-256 of the archive.
    """

    role: str
    version: str
    digest: str
    shadow: bool
    share: float
    published: float
    sha256: str


class Rollouts:
    """The table of published routers, one row per role."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def publish(
        self,
        role: Role,
        version: str,
        digest: str,
        archive: bytes,
        shadow: bool = False,
        share: float = 0.0,
    ) -> Rollout:
        """Publish a router in a role, in place of the previous one.

        Raises:
            ServingError: the database cannot be used (503); the previous router remains.
        """
        sha256 = hashlib.sha256(archive).hexdigest()
        new = Rollout(role, version, digest, shadow, share, self._clock(), sha256)
        with self._database.write(durable=True) as connection:
            connection.execute(delete(rollouts).filter_by(role=role))
            connection.execute(insert(rollouts).values(**vars(new), archive=archive))
        return new

    def current(self) -> dict[str, Rollout]:
        """Return the published routers by role; this reads no archive, so it may be polled."""
        columns = [column for column in rollouts.c if column.name != "archive"]
        with self._database.read() as connection:
            rows = connection.execute(select(*columns)).mappings().all()
        return {row["role"]: Rollout(**row) for row in rows}

    def archive(self, rollout: Rollout) -> bytes:
        """Return the archive of a published router, after a check of its SHA-256.

        Raises:
            ServingError: another router has been published since, or the archive is damaged (503).
        """
        query = select(rollouts.c.archive).filter_by(role=rollout.role, sha256=rollout.sha256)
        with self._database.read() as connection:
            data = connection.scalar(query)
        if data is None or hashlib.sha256(data).hexdigest() != rollout.sha256:
            problem = "was replaced meanwhile" if data is None else "is damaged"
            raise ServingError(
                f"rollout: the archive of {rollout.role} {rollout.version} {problem}. Publish it"
                " again with 'catimage promote'.",
                503,
                "rollout_unavailable",
            )
        return bytes(data)

    def clear(self, role: Role) -> bool:
        """Remove a role; return whether it had a router."""
        with self._database.write(durable=True) as connection:
            return connection.execute(delete(rollouts).filter_by(role=role)).rowcount > 0
