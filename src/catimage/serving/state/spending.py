"""Cost ceilings: the cost of a request is reserved before it is spent, and settled at its end."""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.state.database import Database
from catimage.serving.state.schema import upsert
from catimage.serving.state.tables import reservations, spending

CEILING_CODE = "insufficient_quota"
"""Code of the error of a request that would exceed the ceiling of its key."""
LIFETIME = 900.0
"""Seconds after which a reservation no longer counts, such as that of a killed process."""
MAX_UNSETTLED = 10_000
"""Settlements that are kept for later while the database does not respond."""
_SPENT = select(spending.c.spent).where(
    spending.c.key_id == bindparam("key_id"), spending.c.month == bindparam("month")
)
_RESERVED = select(func.sum(reservations.c.cost)).where(
    reservations.c.key_id == bindparam("key_id"),
    reservations.c.month == bindparam("month"),
    reservations.c.expires > bindparam("now"),
)
_BOTH = select(_SPENT.scalar_subquery(), _RESERVED.scalar_subquery())
_RESERVE = insert(reservations)
_RELEASE = delete(reservations).where(reservations.c.reservation_id == bindparam("released"))
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reservation:
    """A cost that a request may have.

    Attributes:
        reservation_id: identifier of the row; empty for a key without a ceiling, which has none.
        key_id: the key.
        month: calendar month (UTC) that the cost counts in, such as ``2026-11``.
        cost: the reserved cost.
    """

    reservation_id: str
    key_id: str
    month: str
    cost: float


class Spending:
    """The cost of each key in each calendar month."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._unsettled: list[tuple[Reservation, float]] = []
        self._lock = threading.Lock()
        add = upsert(database.engine.dialect.name, spending)
        self._add = add.on_conflict_do_update(
            index_elements=["key_id", "month"],
            set_={"spent": spending.c.spent + add.excluded.spent},
        )

    def reserve(
        self,
        key: ApiKey,
        cost: float,
        replaced: Reservation | None = None,
        lifetime: float = LIFETIME,
    ) -> Reservation:
        """Reserve the largest cost that a request may have.

        Args:
            key: the client. A key without a ceiling needs no query.
            cost: total cost of the request.
            replaced: an earlier reservation of the request, which is replaced if the new one is
                accepted, and remains if not.
            lifetime: seconds after which the reservation expires if it is not settled, more than
                the request may take.

        Raises:
            ServingError: the key's ceiling would be exceeded (429, ``insufficient_quota``), or the
                database cannot be used (503).
        """
        _check_cost(cost)
        now = self._clock()
        if key.ceiling is None:
            return Reservation("", key.key_id, _month(now), cost)
        reservation = Reservation(secrets.token_hex(16), key.key_id, _month(now), cost)
        values = {**vars(reservation), "now": now}
        with self._database.write() as connection:
            if not self._database.sqlite:  # locks the row until the commit
                self._add_cost(connection, reservation, 0.0)
            if replaced is not None:
                connection.execute(_RELEASE, {"released": replaced.reservation_id})
            total = sum(value or 0.0 for value in connection.execute(_BOTH, values).one())
            if total + cost > key.ceiling * (1 + 1e-12):
                raise _exceeded(key, now)
            connection.execute(_RESERVE, {**vars(reservation), "expires": now + lifetime})
        return reservation

    def settle(self, reservation: Reservation, cost: float) -> None:
        """Replace a reservation by the real cost. A second call for a reservation has no effect.

        If the database does not respond, the cost is kept in memory and settled with a later one,
        because the images exist already.

        Args:
            reservation: the reservation, which may have expired.
            cost: the real cost; 0 if nothing was generated.
        """
        _check_cost(cost)
        self._settle_all([(reservation, cost)])

    def settle_waiting(self) -> None:
        """Settle the costs that are kept in memory since the database did not respond."""
        if self._unsettled:
            self._settle_all([])

    def _settle_all(self, new: list[tuple[Reservation, float]]) -> None:
        with self._lock:
            waiting, self._unsettled = [*self._unsettled, *new], []
        try:
            with self._database.write() as connection:
                # The order of the rows is the same in all processes, which prevents deadlocks.
                for item in sorted(waiting, key=lambda item: (item[0].key_id, item[0].month)):
                    self._settle(connection, *item)
        except ServingError as error:
            with self._lock:
                self._unsettled = [*waiting, *self._unsettled][-MAX_UNSETTLED:]
            _LOG.warning("%d costs are not settled yet: %s", len(waiting), error)

    def _settle(self, connection: Connection, reservation: Reservation, cost: float) -> None:
        identifier = reservation.reservation_id
        if not identifier or connection.execute(_RELEASE, {"released": identifier}).rowcount:
            self._add_cost(connection, reservation, cost)

    def _add_cost(self, connection: Connection, reservation: Reservation, cost: float) -> None:
        key_id, month = reservation.key_id, reservation.month
        connection.execute(self._add, {"key_id": key_id, "month": month, "spent": cost})

    def spent(self, key_id: str) -> float:
        """Return the settled cost of a key in the current calendar month (UTC)."""
        values = {"key_id": key_id, "month": _month(self._clock())}
        with self._database.read() as connection:
            return float(connection.scalar(_SPENT, values) or 0.0)

    def spent_by_key(self) -> dict[str, float]:
        """Return the settled cost of every key in the current calendar month (UTC), by key id."""
        rows = select(spending.c.key_id, spending.c.spent).filter_by(month=_month(self._clock()))
        with self._database.read() as connection:
            return {key_id: float(spent) for key_id, spent in connection.execute(rows)}

    def purge(self) -> int:
        """Delete reservations that expired a day ago; return their number."""
        old = delete(reservations).where(reservations.c.expires < self._clock() - 86_400)
        with self._database.write() as connection:
            return connection.execute(old).rowcount


def _check_cost(cost: float) -> None:
    if not (math.isfinite(cost) and cost >= 0):
        raise ValueError(f"a cost has to be a finite number that is not negative, not {cost}")


def _month(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m")


def _exceeded(key: ApiKey, now: float) -> ServingError:
    moment = datetime.fromtimestamp(now, UTC)
    next_month = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    return ServingError(
        f"key {key.key_id}: the request would exceed the ceiling of {key.ceiling:g} per calendar"
        " month (UTC). Use a cheaper candidate or fewer images, or ask the operator to raise it.",
        429,
        CEILING_CODE,
        retry_after=(next_month - moment).total_seconds(),
        retryable=False,
    )
