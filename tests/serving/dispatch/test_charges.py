"""Costs of images that the client does not get, but that a provider may charge for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from catimage.serving.core import Core
from catimage.serving.messages import ApiKey, ImageRequest, ServingError
from catimage.serving.state.store import State
from tests.serving.cores import CANDIDATES, answer, request, running_core
from tests.serving.groups import ScriptedGroup, hang

End = Callable[[Core, ScriptedGroup, ImageRequest, bool], Awaitable[None]]


async def leave(core: Core, group: ScriptedGroup, image_request: ImageRequest, paid: bool) -> None:
    """Send a request, and disconnect while a generator works."""
    leaving = asyncio.create_task(answer(core, image_request))
    while not group.tasks:
        await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)


async def time_out(
    core: Core, group: ScriptedGroup, image_request: ImageRequest, paid: bool
) -> None:
    """Send a request whose time limit passes; clients repeat it only if that costs nothing."""
    with pytest.raises(ServingError, match="not finished in time") as failed:
        await answer(core, image_request)
    assert failed.value.retryable is not paid
    assert (failed.value.retry_after is None) is paid


@pytest.mark.parametrize(("paid", "spent"), [(True, 4.0), (False, 0.0)])
@pytest.mark.parametrize("end", [leave, time_out])
def test_images_that_a_provider_may_charge_for_count_against_the_ceiling(
    calibrated_folder: Path, tmp_path: Path, paid: bool, spent: float, end: End
) -> None:
    async def run() -> None:
        state = State.open(f"sqlite:///{tmp_path}/state.db")
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts, group.paid = [hang], frozenset(CANDIDATES if paid else ())
        image_request = request(model="mini-2", n=2, key=ApiKey("k", "client", ceiling=10.0))
        async with running_core(calibrated_folder, group, state=state, timeout=0.2) as core:
            await end(core, group, image_request, paid)
            await core.drained()
        assert state.spending.spent("k") == spent
        state.close()

    asyncio.run(run())
