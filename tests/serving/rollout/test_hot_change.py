"""A change of the champion in a core that answers requests at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.generator.failures import TaskFailed
from catimage.serving.messages import ApiKey, Result
from catimage.serving.state.store import State
from catimage.serving.tasks import ImageTask, TaskEvent
from catimage.workspace import Workspace
from tests.serving.cores import CANDIDATES, answer, request, running_core
from tests.serving.groups import ScriptedGroup, draw
from tests.serving.rollout.routers import changed_router, publish


def test_the_champion_changes_under_load_and_no_request_fails(
    state: State, calibrated: Workspace, tmp_path: Path
) -> None:
    folders = [
        changed_router(calibrated.router, tmp_path / name, estimator=name)
        for name in ("two", "three")
    ]
    results: list[Result] = []

    async def serve() -> None:
        group, done = ScriptedGroup("g", *CANDIDATES), asyncio.Event()
        publish(state, "champion", "1", calibrated.router)
        async with running_core(
            calibrated.root, group, state=state, refresh_seconds=0.05, max_queue_seconds=60
        ) as core:

            async def client(number: int) -> None:
                count = 0
                while not done.is_set():
                    name = f"r{number}-{count}"
                    images, result = await answer(core, request(request_id=name, draw=name))
                    assert len(images) == 1
                    results.append(result)
                    count += 1

            async def until_served(version: str) -> None:
                async with asyncio.timeout(20):
                    while not results or results[-1].routed.router_version != version:
                        await asyncio.sleep(0.01)

            async with asyncio.TaskGroup() as clients:
                for number in range(6):
                    clients.create_task(client(number))
                await until_served("1")
                for version, folder in zip(("2", "3"), folders, strict=True):
                    publish(state, "champion", version, folder)
                    await until_served(version)
                publish(state, "challenger", "2", folders[0], share=0.5)
                await asyncio.sleep(0.5)
                state.rollouts.clear("challenger")
                await asyncio.sleep(0.3)
                done.set()
            (replica,) = state.replicas.live()
            assert (replica.version, replica.problem) == ("3", "")
            assert core.router_document()["version"] == "3"

    asyncio.run(serve())
    order = [result.routed.router_version for result in results]
    assert set(order) == {"1", "2", "3"} and len(order) > 100
    first_of_three = order.index("3")
    assert set(order[: order.index("2")]) == {"1"}
    canary = order[first_of_three:]
    assert canary.count("2") > 5  # the challenger served a share of the requests
    assert order[-1] == "3"


@pytest.mark.parametrize("key", [None, ApiKey("k", "client", budget=4.0)])
def test_the_costs_of_requests_in_progress_reach_the_budget(
    state: State, calibrated: Workspace, tmp_path: Path, key: ApiKey | None
) -> None:
    async def serve() -> tuple[str, Result]:
        group, changed = ScriptedGroup("g", *CANDIDATES), asyncio.Event()

        async def fail_after_the_change(task: ImageTask) -> AsyncIterator[TaskEvent]:
            async for event in draw(task, 1):
                yield event
            await changed.wait()
            raise TaskFailed("out of memory")

        group.scripts = [fail_after_the_change]
        async with running_core(calibrated.root, group, state=state) as core:
            before = core.versions.champion
            assert before is not None
            waiting = asyncio.create_task(answer(core, request(n=3, key=key)))
            while not group.tasks:
                await asyncio.sleep(0.01)
            await asyncio.wait_for(core.use(Versions(RouterVersion("2", before.router)), "d"), 10)
            changed.set()
            _, result = await waiting
        return before.version, result

    version, result = asyncio.run(serve())
    scope = f"key:{key.key_id}" if key else "service"
    row = state.budgets.read(f"{scope} {version}")
    assert result.routed.router_version == version and result.fallbacks
    assert result.cost != 3 * result.routed.costs[result.routed.candidate]
    assert row is not None and (row.images, row.cost) == pytest.approx((3, result.cost))
