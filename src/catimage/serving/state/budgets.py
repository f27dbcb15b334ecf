"""The state of the budget controllers, which the replicas share and a restart keeps."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import RowMapping, select, update

from catimage.serving.state.database import Database
from catimage.serving.state.schema import insert_if_absent
from catimage.serving.state.tables import budgets


@dataclass(frozen=True)
class BudgetRow:
    """The state of one budget.

    Attributes:
        scope: name of the budget, such as ``service``, ``key:ID`` or ``quality:low``.
        lam: lambda, in quality per unit of cost; None before the first update.
        requests: sum of the requests; the controller may discount old ones.
        images: sum of the images, likewise.
        cost: sum of the costs, likewise.
        updated: time of the last update, in seconds since the epoch.
    """

    scope: str
    lam: float | None = None
    requests: float = 0.0
    images: float = 0.0
    cost: float = 0.0
    updated: float = 0.0


class Budgets:
    """The table of the budgets."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def read(self, scope: str) -> BudgetRow | None:
        """Return the state of a budget; None if it was never updated."""
        with self._database.read() as connection:
            row = connection.execute(select(budgets).filter_by(scope=scope)).mappings().first()
        return None if row is None else _budget_row(row)

    def update(
        self,
        scope: str,
        requests: float,
        images: float,
        cost: float,
        step: Callable[[BudgetRow], float | BudgetRow],
    ) -> BudgetRow:
        """Add to the sums of a budget and set its lambda, in one transaction.

        Args:
            scope: name of the budget.
            requests: number of requests to add.
            images: number of images to add.
            cost: cost to add.
            step: function from the row, with the sums increased and the old lambda and time, to
                the new lambda; or to a whole row, whose lambda and sums are stored, so that the
                function can discount old requests. No other process changes the row meanwhile.

        Returns:
            The new row.

        Raises:
            ServingError: the database cannot be used (503); nothing was added.
        """
        with self._database.write() as connection:
            insert_if_absent(
                connection, budgets, scope=scope, requests=0.0, images=0.0, cost=0.0, updated=0.0
            )
            query = select(budgets).filter_by(scope=scope).with_for_update()
            old = _budget_row(connection.execute(query).mappings().one())
            row = _increased(old, requests, images, cost)
            result = step(row)
            if not isinstance(result, BudgetRow):
                result = dataclasses.replace(row, lam=float(result))
            new = dataclasses.replace(result, scope=scope, updated=self._clock())
            values = dataclasses.asdict(new)
            connection.execute(update(budgets).filter_by(scope=scope).values(**values))
        return new


def _increased(row: BudgetRow, requests: float, images: float, cost: float) -> BudgetRow:
    return dataclasses.replace(
        row,
        requests=row.requests + requests,
        images=row.images + images,
        cost=row.cost + cost,
    )


def _budget_row(row: RowMapping) -> BudgetRow:
    return BudgetRow(**row)
