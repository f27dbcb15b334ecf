"""Deletion of expired rows in the background, which an outage of the database does not end."""

import asyncio

from catimage.serving.messages import ApiKey
from catimage.serving.state.maintenance import purge_forever
from tests.serving.state.helpers import outage


def test_expired_rows_are_deleted_also_after_an_outage(state, caplog):
    async def run():
        task = asyncio.create_task(purge_forever(state, 0.01))
        with outage(state._database, "catimage_jobs"):
            while "expired rows remain" not in caplog.text:
                await asyncio.sleep(0.01)
        state.images.put(b"x", "image/png", -1.0)
        while state.images.total_bytes():
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 10))
    assert state.images.total_bytes() == 0


def test_an_unexpected_failure_does_not_end_the_deletions(state, monkeypatch, caplog):
    purge, failing = state.jobs.purge, [True]

    def once():
        if failing:
            failing.clear()
            raise ValueError("a bug")
        return purge()

    async def run():
        task = asyncio.create_task(purge_forever(state, 0.01))
        state.images.put(b"x", "image/png", -1.0)
        while "expired rows cannot be deleted" not in caplog.text or state.images.total_bytes():
            await asyncio.sleep(0.01)
        task.cancel()

    monkeypatch.setattr(state.jobs, "purge", once)
    asyncio.run(asyncio.wait_for(run(), 10))
    assert state.images.total_bytes() == 0


def test_costs_of_an_outage_are_settled_without_another_request(state):
    key = ApiKey("k", "client", ceiling=10.0)
    first, second = state.spending.reserve(key, 2.0), state.spending.reserve(key, 3.0)
    with outage(state._database, "catimage_spending"):
        state.spending.settle(first, 2.0)
    state.purge()
    assert state.spending.spent("k") == 2.0
    with outage(state._database, "catimage_spending"):
        state.spending.settle(second, 3.0)
    state.close()
    assert state.spending.spent("k") == 5.0
