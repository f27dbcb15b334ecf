"""Hard ceilings: the cost of a request is reserved before it is spent, and settled afterwards."""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.state.database import Database
from catimage.serving.state.schema import insert_if_absent
from catimage.serving.state.tables import reservations, spending

LIFETIME = 900.0
"""Seconds after which a reservation of a process that has died no longer counts."""
MAX_UNSETTLED = 10_000
"""Settlements that are kept for later while the database does not respond."""
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

    def reserve(self, key: ApiKey, cost: float, lifetime: float = LIFETIME) -> Reservation:
        """Reserve the largest cost that a request may have.

        Args:
            key: the client. A key without a ceiling needs no query.
            cost: total cost of the request.
            lifetime: seconds after which the reservation expires if it is not settled.

        Raises:
            ServingError: the key's ceiling would be exceeded (429, ``insufficient_quota``), or the
                database cannot be used (503).
        """
        _check_cost(cost)
        now = self._clock()
        if key.ceiling is None:
            return Reservation("", key.key_id, _month(now), cost)
        reservation = Reservation(secrets.token_hex(16), key.key_id, _month(now), cost)
        with self._database.write() as connection:
            total = self._locked_total(connection, key.key_id, reservation.month, now)
            if total + cost > key.ceiling * (1 + 1e-12):
                raise _exceeded(key, now)
            values = {**vars(reservation), "expires": now + lifetime}
            connection.execute(insert(reservations).values(**values))
        return reservation

    def _locked_total(self, connection: Connection, key_id: str, month: str, now: float) -> float:
        """Return the settled and the reserved cost; no other process reserves until the commit."""
        if not self._database.sqlite:
            insert_if_absent(connection, spending, key_id=key_id, month=month, spent=0.0)
            row = select(spending.c.spent).filter_by(key_id=key_id, month=month)
            connection.execute(row.with_for_update())
        return _total(connection, key_id, month, now)

    def settle(self, reservation: Reservation, cost: float) -> None:
        """Replace a reservation by the real cost. A second call for a reservation has no effect.

        If the database does not respond, the cost is kept in memory and settled with a later one,
        because the images exist already.

        Args:
            reservation: the reservation, which may have expired.
            cost: the real cost; 0 if nothing was generated.
        """
        _check_cost(cost)
        with self._lock:
            waiting, self._unsettled = [*self._unsettled, (reservation, cost)], []
        try:
            with self._database.write() as connection:
                for item in waiting:
                    _settle(connection, *item)
        except ServingError as error:
            with self._lock:
                self._unsettled = [*waiting, *self._unsettled][-MAX_UNSETTLED:]
            _LOG.warning("%d costs are not settled yet: %s", len(waiting), error)

    def spent(self, key_id: str) -> float:
        """Return the settled cost of a key in the current calendar month (UTC)."""
        row = select(spending.c.spent).filter_by(key_id=key_id, month=_month(self._clock()))
        with self._database.read() as connection:
            return float(connection.scalar(row) or 0.0)

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


def _total(connection: Connection, key_id: str, month: str, now: float) -> float:
    settled = select(spending.c.spent).filter_by(key_id=key_id, month=month)
    reserved = (
        select(func.sum(reservations.c.cost))
        .filter_by(key_id=key_id, month=month)
        .where(reservations.c.expires > now)
    )
    both = select(settled.scalar_subquery(), reserved.scalar_subquery())
    return float(sum(value or 0.0 for value in connection.execute(both).one()))


def _settle(connection: Connection, reservation: Reservation, cost: float) -> None:
    key = {"key_id": reservation.key_id, "month": reservation.month}
    insert_if_absent(connection, spending, **key, spent=0.0)
    add = update(spending).filter_by(**key).values(spent=spending.c.spent + cost)
    if not reservation.reservation_id:
        connection.execute(add)
        return
    row = delete(reservations).filter_by(reservation_id=reservation.reservation_id)
    if connection.execute(row).rowcount:
        connection.execute(add)


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
        "insufficient_quota",
        retry_after=(next_month - moment).total_seconds(),
        retryable=False,
    )
