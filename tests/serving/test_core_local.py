"""The core with the generators of the miniature pool in the same process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from catimage.pool.loading import load_pool
from catimage.serving.generator.client import LocalGroup
from catimage.serving.generator.engine import Engine
from catimage.serving.messages import Routed
from catimage.serving.tasks import Preview
from tests.serving.cores import answer, request, running_core


@pytest.fixture(scope="module")
def group(miniature_pool: Path) -> Iterator[LocalGroup]:
    engine = Engine(load_pool(str(miniature_pool)), "cpu", group="local")
    engine.start()
    deadline = time.monotonic() + 60
    while not engine.measured and time.monotonic() < deadline:
        time.sleep(0.05)
    yield LocalGroup("local", engine)
    engine.close()


def test_images_are_the_same_alone_and_among_concurrent_requests(
    calibrated_folder: Path, group: LocalGroup
) -> None:
    async def run() -> None:
        async with running_core(calibrated_folder, group) as core:
            (alone,), result = await answer(core, request(model="mini-4", seed=3))
            others = [answer(core, request(model="mini-4", seed=i)) for i in range(8)]
            together = await asyncio.gather(*others)
        assert result.candidate == "mini-4" and result.batch_size == 1
        assert max(r.batch_size for _, r in together) > 1
        again = together[3][0][0].pixels
        assert alone.pixels is not None and again is not None and alone.pixels.shape == (64, 64, 3)
        assert np.abs(alone.pixels.astype(int) - again).max() <= 1

    asyncio.run(run())


def test_a_client_that_leaves_stops_the_device(calibrated_folder: Path, group: LocalGroup) -> None:
    async def run() -> None:
        async with running_core(calibrated_folder, group) as core:
            image_request = request(model="mini-4", n=10, previews=1, stream=True)
            events = core.generate(image_request)
            routed, first = await anext(events), await anext(events)
            await events.aclose()
            await core.drained()
            async with asyncio.timeout(5):
                while (await group.status()).running_images:
                    await asyncio.sleep(0.005)
            status = await group.status()
        assert isinstance(routed, Routed) and isinstance(first, Preview)
        assert first.pixels.shape == (64, 64, 3)
        assert status.queued_images == 0

    asyncio.run(run())
