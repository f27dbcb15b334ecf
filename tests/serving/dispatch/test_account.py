from __future__ import annotations

import asyncio
import threading

import pytest

from catimage.serving.dispatch.account import Account
from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.state.spending import Reservation

KEY = ApiKey("k", "client", ceiling=10.0)


class SlowLedger:
    """A ledger whose reservations wait for :attr:`released`."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.reserved: list[float] = []
        self.settled: list[float] = []

    def reserve(
        self, key: ApiKey, cost: float, replaced: Reservation | None, lifetime: float
    ) -> Reservation:
        assert lifetime == 60.0
        self.released.wait(5)
        self.reserved.append(cost)
        return Reservation("r", key.key_id, "2026-11", cost)

    def settle(self, reservation: Reservation, cost: float) -> None:
        self.settled.append(cost)


def test_a_reservation_is_settled_although_the_client_left_while_it_was_made() -> None:
    ledger = SlowLedger()

    async def run() -> None:
        account = Account(ledger, KEY, {"a": 1.0}, 60.0)
        leaving = asyncio.create_task(account.reserve("a", 3))
        await asyncio.sleep(0.05)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        settling = asyncio.create_task(account.settle())
        ledger.released.set()
        await settling

    asyncio.run(run())
    assert (ledger.reserved, ledger.settled) == ([3.0], [0.0])


def test_only_a_more_expensive_attempt_is_reserved_again() -> None:
    ledger = SlowLedger()
    ledger.released.set()

    async def run() -> None:
        account = Account(ledger, KEY, {"a": 1.0, "b": 2.0}, 60.0)
        await account.reserve("a", 2)
        await account.reserve("a", 1)
        account.charge("a")
        await account.reserve("b", 2)
        account.charge("b", 2)
        await account.settle()
        await account.settle()

    asyncio.run(run())
    assert (ledger.reserved, ledger.settled) == ([2.0, 5.0], [5.0])


def test_the_error_of_a_ceiling_reaches_the_request() -> None:
    class Exhausted(SlowLedger):
        def reserve(
            self, key: ApiKey, cost: float, replaced: Reservation | None, lifetime: float
        ) -> Reservation:
            raise ServingError("key: exhausted. Ask the operator.", 429, "insufficient_quota")

    async def run() -> None:
        account = Account(Exhausted(), KEY, {"a": 1.0}, 60.0)
        with pytest.raises(ServingError, match="exhausted"):
            await account.reserve("a", 1)
        await account.settle()

    asyncio.run(run())
