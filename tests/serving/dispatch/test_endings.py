"""Rare endings of requests: clients that leave, races of circuit breakers, failing reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from catimage.serving.messages import ServingError
from catimage.serving.tasks import FinishedTask, ImageTask, TaskEvent
from tests.serving.cores import CANDIDATES, Log, answer, request, running_core
from tests.serving.groups import ScriptedGroup, draw, hang


def test_the_next_candidate_answers_if_another_request_is_the_trial(
    calibrated_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(calibrated_folder, group) as core:
            begin = core.fleet.breakers.begin
            taken = ("g", "mini-4")  # between the selection and the start
            monkeypatch.setattr(
                core.fleet.breakers, "begin", lambda name: name != taken and begin(name)
            )
            _, result = await answer(core, request(lam=0.05))
        assert result.routed.candidate == "mini-4" and result.candidate == "mini-2"

    asyncio.run(run())


def test_a_failing_report_does_not_block_the_answer(calibrated_folder: Path) -> None:
    class Broken(Log):
        def decision(self, *_: Any, **__: Any) -> None:
            raise OSError("disk full")

    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(calibrated_folder, group, telemetry=Broken()) as core:
            images, _ = await asyncio.wait_for(answer(core), 5)
        assert len(images) == 1

    asyncio.run(run())


def test_a_request_that_is_cancelled_before_it_begins_ends(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(calibrated_folder, group) as core:
            started = core._runner._run

            def cancelled_at_once(*arguments: Any) -> Any:
                before = set(core._runner._requests)

                def cancel() -> None:  # runs before the first step of the new task
                    for task in core._runner._requests - before:
                        task.cancel()

                asyncio.get_running_loop().call_soon(cancel)
                return started(*arguments)

            core._runner._run = cancelled_at_once  # type: ignore[method-assign]
            with pytest.raises(ServingError) as refused:
                await asyncio.wait_for(answer(core), 5)
        assert (refused.value.status, refused.value.code) == (503, "draining")
        assert refused.value.retry_after is not None and not group.tasks

    asyncio.run(run())


def test_polls_go_on_after_a_status_that_cannot_be_used(calibrated_folder: Path) -> None:
    class Odd(ScriptedGroup):
        odd = False

        async def status(self) -> Any:
            if self.odd:
                raise KeyError("queue_seconds")
            return await super().status()

    async def run() -> None:
        group = Odd("g", *CANDIDATES)
        async with running_core(calibrated_folder, group) as core:
            group.odd = True
            async with asyncio.timeout(10):
                while core.ready:
                    core.fleet.members["g"].failed.set()
                    await asyncio.sleep(0.01)
                group.odd = False
                while not core.ready:
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_an_unexpected_exception_of_a_group_is_a_failure_of_the_candidate(
    calibrated_folder: Path,
) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)

        async def broken(task: ImageTask) -> AsyncIterator[TaskEvent]:
            raise KeyError("shape")
            yield

        group.scripts = [broken, broken]
        async with running_core(calibrated_folder, group) as core:
            _, result = await answer(core, request(lam=0.05))
            group.paid = frozenset(CANDIDATES)
            await core.fleet.poll(core.fleet.members["g"])
            group.scripts = [broken]
            with pytest.raises(ServingError) as failed:
                await answer(core, request(lam=0.05))
        assert result.fallbacks == {"mini-4": "failed", "mini-2": "failed"}
        assert result.candidate == "mini-1"
        assert (failed.value.status, failed.value.code) == (503, "upstream_timeout")

    asyncio.run(run())


def test_a_task_that_ends_without_all_images_is_a_failure(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)

        async def incomplete(task: ImageTask) -> AsyncIterator[TaskEvent]:
            async for event in draw(task, 1):
                yield event
            yield FinishedTask(0.0, 0.0, 1)

        group.scripts = [incomplete]
        async with running_core(calibrated_folder, group) as core:
            images, result = await answer(core, request(n=2, lam=0.05))
        assert len(images) == 2 and result.candidate == "mini-2"
        assert result.fallbacks == {"mini-4": "failed"}

    asyncio.run(run())


def test_clients_that_leave_do_not_move_the_budget(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts = [hang] * 8
        async with running_core(calibrated_folder, group) as core:
            before = core.router_document()["budgets"]["service"]
            for i in range(8):
                leaving = asyncio.create_task(answer(core, request(n=4)))
                while len(group.tasks) == i:
                    await asyncio.sleep(0.002)
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
                await core.drained()
            after = core.router_document()["budgets"]["service"]
        assert after["mean_cost"] is None
        assert after["lambda"] == pytest.approx(before["lambda"], rel=0.01)

    asyncio.run(run())
