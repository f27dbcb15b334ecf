"""The cost of one request: reserved before it is spent, counted per image, settled at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from starlette.concurrency import run_in_threadpool

from catimage.serving.messages import ApiKey
from catimage.serving.state.spending import Reservation


class Ledger(Protocol):
    """The part of :class:`catimage.serving.state.spending.Spending` that is used here."""

    def reserve(
        self, key: ApiKey, cost: float, replaced: Reservation | None, lifetime: float
    ) -> Reservation:
        """Reserve a cost in place of an earlier one, which remains if ServingError is raised."""

    def settle(self, reservation: Reservation, cost: float) -> None:
        """Replace a reservation by the real cost."""


class Account:
    """The cost of one request.

    Args:
        ledger: the reserved and settled costs of the keys.
        key: the client; None if the service has no keys.
        costs: cost of one image of each candidate.
        lifetime: seconds for which a reservation counts unless it is settled; longer than the
            request may take.

    Attributes:
        images: number of images that were made, by candidate.
    """

    def __init__(
        self, ledger: Ledger, key: ApiKey | None, costs: Mapping[str, float], lifetime: float
    ) -> None:
        self._ledger, self._key, self._costs, self._lifetime = ledger, key, costs, lifetime
        self._reservation: Reservation | None = None
        self._reserving: asyncio.Task[None] | None = None
        self._reserved = 0.0
        self.images: dict[str, int] = {}

    @property
    def cost(self) -> float:
        """Total cost of the images that were made."""
        return sum(n * self._costs[name] for name, n in self.images.items())

    async def reserve(self, candidate: str, images: int) -> None:
        """Reserve the cost of images in addition to those that were made.

        Raises:
            ServingError: the ceiling of the key would be exceeded (429).
        """
        cost = self.cost + images * self._costs[candidate]
        if self._key is None or cost <= self._reserved:
            return
        # If the client disconnects meanwhile, the reservation is completed: settle() ends it.
        self._reserving = asyncio.create_task(self._reserve(self._key, cost))
        await asyncio.shield(self._reserving)

    async def _reserve(self, key: ApiKey, cost: float) -> None:
        self._reservation = await run_in_threadpool(
            self._ledger.reserve, key, cost, self._reservation, self._lifetime
        )
        self._reserved = cost

    def charge(self, candidate: str, images: int = 1) -> None:
        """Count images that were made, or that a provider may have charged for."""
        self.images[candidate] = self.images.get(candidate, 0) + images

    async def settle(self) -> None:
        """Replace the reservation by the cost of the images."""
        if self._reserving is not None:
            await asyncio.gather(self._reserving, return_exceptions=True)
        if self._reservation is not None:
            reservation, self._reservation = self._reservation, None
            await run_in_threadpool(self._ledger.settle, reservation, self.cost)
