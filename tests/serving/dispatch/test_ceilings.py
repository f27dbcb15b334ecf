"""Ceilings of keys: a cheaper candidate answers if the best one costs more than what is left."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from catimage.serving.generator.failures import GroupUnavailable
from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.state.store import State
from catimage.serving.state.tables import reservations
from catimage.serving.tasks import ImageTask, TaskEvent
from tests.serving.cores import CANDIDATES, answer, request, running_core
from tests.serving.groups import ScriptedGroup, draw, hang


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    shared = State.open(f"sqlite:///{tmp_path}/state.db")
    yield shared
    shared.close()


def test_a_cheaper_candidate_answers_if_the_selected_one_exceeds_the_ceiling(
    calibrated_folder: Path, state: State
) -> None:
    key = ApiKey("k", "client", ceiling=5.0)

    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts = [hang]
        async with running_core(calibrated_folder, group, state=state) as core:
            first = asyncio.create_task(answer(core, request(model="mini-4", key=key)))
            while not group.tasks:
                await asyncio.sleep(0.01)
            _, result = await answer(core, request(lam=0.05, key=key))
            assert result.routed.candidate == "mini-4" and result.candidate == "mini-1"
            assert result.fallbacks == {"mini-4": "ceiling", "mini-2": "ceiling"}
            for model, lam in (("mini-4", None), ("mini-1", None), (None, 0.05)):
                with pytest.raises(ServingError, match="would exceed the ceiling") as refused:
                    await answer(core, request(model=model, lam=lam, key=key))
                assert (refused.value.status, refused.value.code) == (429, "insufficient_quota")
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await core.drained()
        assert [task.candidate for task in group.tasks] == ["mini-4", "mini-1"]

    asyncio.run(run())
    assert state.spending.spent("k") == 1.0


def test_concurrent_requests_use_the_whole_ceiling_and_no_more(
    calibrated_folder: Path, state: State
) -> None:
    key = ApiKey("k", "client", ceiling=11.0)

    async def run() -> Counter[str]:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(calibrated_folder, group, state=state) as core:
            outcomes = await asyncio.gather(
                *(answer(core, request(lam=0.05, key=key)) for _ in range(16)),
                return_exceptions=True,
            )
            await core.drained()
        return Counter(
            o.code if isinstance(o, ServingError) else o[1].candidate
            for o in outcomes
            if not isinstance(o, BaseException) or isinstance(o, ServingError)
        )

    counts = asyncio.run(run())
    assert counts == {"mini-4": 2, "mini-2": 1, "mini-1": 1, "insufficient_quota": 12}
    assert state.spending.spent("k") == 11.0


def test_images_are_kept_while_no_other_candidate_is_affordable(
    calibrated_folder: Path, state: State
) -> None:
    key = ApiKey("k", "client", ceiling=12.0)

    async def run() -> None:
        large, small = ScriptedGroup("1", "mini-4"), ScriptedGroup("2", "mini-2")

        async def die(task: ImageTask) -> AsyncIterator[TaskEvent]:
            async for event in draw(task, 2):
                yield event
            raise GroupUnavailable("killed")

        large.scripts = [die]
        async with running_core(calibrated_folder, large, small, state=state) as core:
            async with asyncio.timeout(5):
                while not all(member.ready for member in core.fleet.members.values()):
                    await asyncio.sleep(0.01)
            images, result = await answer(core, request(n=3, lam=0.05, key=key))
            await core.drained()
        assert [task.seeds for task in large.tasks] == [(7, 8, 9), (9,)] and not small.tasks
        assert len(images) == 3 and result.cost == 12.0
        assert result.fallbacks == {"mini-2": "ceiling"}

    asyncio.run(run())
    assert state.spending.spent("k") == 12.0


def test_a_reservation_lasts_longer_than_its_request(calibrated_folder: Path, state: State) -> None:
    async def run() -> float:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts = [hang]
        async with running_core(calibrated_folder, group, state=state, timeout=5000.0) as core:
            key = ApiKey("k", "client", ceiling=5.0)
            waiting = asyncio.create_task(answer(core, request(model="mini-4", key=key)))
            while not group.tasks:
                await asyncio.sleep(0.01)
            with state._database.read() as connection:
                expires = connection.scalar(select(reservations.c.expires))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        return float(expires or 0.0)

    assert asyncio.run(run()) > time.time() + 5000.0
