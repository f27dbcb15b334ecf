"""Deletion of expired rows in the background, which an outage of the database does not end."""

import asyncio

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
