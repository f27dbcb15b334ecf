"""A change of the champion in a core that answers requests at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from catimage.serving.messages import Result
from catimage.serving.state.store import State
from catimage.workspace import Workspace
from tests.serving.cores import CANDIDATES, answer, request, running_core
from tests.serving.groups import ScriptedGroup
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
