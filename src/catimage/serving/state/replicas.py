"""The running replicas of the service, and the router that each one serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, select, update

from catimage.serving.state.database import Database
from catimage.serving.state.schema import insert_if_absent
from catimage.serving.state.tables import replicas


@dataclass(frozen=True)
class Replica:
    """A running replica.

    Attributes:
        replica_id: identifier of the replica.
        version: version of the router that it serves.
        digest: digest of that router's folder.
        seen: time of its last report, in seconds since the epoch.
        challenger: version of the challenger; empty without one.
        challenger_digest: digest of the challenger's folder.
        shadow: whether the challenger only decides, while the champion serves.
        share: share of the requests that the challenger serves.
        problem: why a published router cannot be loaded; empty if all are.
    """

    replica_id: str
    version: str
    digest: str
    seen: float
    challenger: str = ""
    challenger_digest: str = ""
    shadow: bool = False
    share: float = 0.0
    problem: str = ""


class Replicas:
    """The table of the replicas."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def report(
        self,
        replica_id: str,
        version: str,
        digest: str,
        *,
        challenger: str = "",
        challenger_digest: str = "",
        shadow: bool = False,
        share: float = 0.0,
        problem: str = "",
    ) -> None:
        """Report the routers that a replica serves; the arguments are those of :class:`Replica`.

        Raises:
            ServingError: the database cannot be used (503).
        """
        row = {"version": version, "digest": digest, "seen": self._clock(), "problem": problem}
        row |= {"challenger": challenger, "challenger_digest": challenger_digest}
        row |= {"shadow": shadow, "share": share}
        with self._database.write() as connection:
            if not insert_if_absent(connection, replicas, replica_id=replica_id, **row):
                connection.execute(update(replicas).filter_by(replica_id=replica_id).values(**row))

    def live(self, seconds: float = 15.0) -> list[Replica]:
        """Return the replicas that have reported in the last seconds, by identifier."""
        query = select(replicas).where(replicas.c.seen >= self._clock() - seconds)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(replicas.c.replica_id)).mappings().all()
        return [Replica(**row) for row in rows]

    def remove(self, replica_id: str) -> None:
        """Remove a replica that shuts down."""
        with self._database.write() as connection:
            connection.execute(delete(replicas).filter_by(replica_id=replica_id))

    def purge(self, seconds: float = 86_400.0) -> int:
        """Delete replicas that have not reported for a day; return their number."""
        old = delete(replicas).where(replicas.c.seen < self._clock() - seconds)
        with self._database.write() as connection:
            return connection.execute(old).rowcount
