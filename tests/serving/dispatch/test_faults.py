"""Faults of generator groups, with a real router and groups whose failures are scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from catimage.serving.dispatch import attempt
from catimage.serving.generator.failures import (
    GenerationFailure,
    GroupUnavailable,
    PromptModerated,
    QueueFull,
    TaskFailed,
    TaskRefused,
    TaskTimedOut,
)
from catimage.serving.messages import Result, Routed, ServingError
from catimage.serving.tasks import FinishedImage, ImageTask, TaskEvent
from tests.serving.cores import CANDIDATES, answer, request, running_core
from tests.serving.groups import Script, ScriptedGroup, draw, hang, pixels_of


def failing(failure: GenerationFailure, after: int = 0) -> Script:
    """Return a script that fails after some images."""

    async def script(task: ImageTask) -> AsyncIterator[TaskEvent]:
        async for event in draw(task, after):
            yield event
        raise failure

    return script


def test_the_next_best_candidate_makes_all_images_when_one_fails(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts = [failing(TaskFailed("out of memory"), after=1)]
        async with running_core(calibrated_folder, group) as core:
            images, result = await answer(core, request(n=3, lam=0.05))
        assert [task.candidate for task in group.tasks] == ["mini-4", "mini-2"]
        assert result.candidate == "mini-2" and result.fallbacks == {"mini-4": "failed"}
        assert result.cost == 4.0 + 3 * 2.0  # the image that was made in vain costs money, too
        assert [(i.index, int(i.pixels[0, 0, 0])) for i in images if i.pixels is not None] == [
            (k, int(pixels_of(group.tasks[1], k)[0, 0, 0])) for k in range(3)
        ]

    asyncio.run(run())


def test_a_group_that_hangs_is_left(
    calibrated_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "PATIENCE_SECONDS", 0.05)

    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts = [hang]
        async with running_core(calibrated_folder, group) as core:
            _, result = await answer(core, request(lam=0.05))
        assert result.candidate == "mini-2" and result.fallbacks == {"mini-4": "failed"}
        assert [task.candidate for task in group.cancelled] == ["mini-4"]

    asyncio.run(run())


def test_a_request_survives_the_restart_of_the_only_group(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)

        async def die(task: ImageTask) -> AsyncIterator[TaskEvent]:
            group.up = False
            raise GroupUnavailable("killed")
            yield

        group.scripts = [die]
        async with running_core(calibrated_folder, group) as core:
            waiting = asyncio.create_task(answer(core, request(model="mini-2")))
            await asyncio.sleep(0.1)
            assert not waiting.done() and not core.ready
            with pytest.raises(ServingError) as refused:
                await answer(core)
            group.up = True
            images, result = await waiting
        assert (refused.value.status, refused.value.code) == (503, "starting")
        assert [task.seeds for task in group.tasks] == [(7,), (7,)]
        assert result.candidate == "mini-2" and result.fallbacks == {} and len(images) == 1

    asyncio.run(run())


def test_a_prompt_that_kills_every_group_is_given_up(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", "mini-2")
        group.scripts = [failing(GroupUnavailable("killed")) for _ in range(9)]
        async with running_core(calibrated_folder, group) as core:
            with pytest.raises(ServingError) as failed:
                await answer(core, request(model="mini-2"))
        assert (failed.value.status, failed.value.code) == (503, "generation_failed")
        assert len(group.tasks) == 4

    asyncio.run(run())


@pytest.mark.parametrize(
    ("failure", "status", "code", "retryable"),
    [
        (lambda: PromptModerated("moderated"), 400, "moderation_blocked", False),
        (lambda: TaskRefused("not supported"), 400, "invalid_value", False),
        (lambda: TaskTimedOut("late", billed=True), 503, "upstream_timeout", False),
    ],
)
def test_final_failures_are_not_retried(
    calibrated_folder: Path,
    failure: Callable[[], GenerationFailure],
    status: int,
    code: str,
    retryable: bool,
) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts = [failing(failure())]
        async with running_core(calibrated_folder, group) as core:
            with pytest.raises(ServingError) as failed:
                await answer(core)
        error = failed.value
        assert (error.status, error.code, error.retryable) == (status, code, retryable)
        assert len(group.tasks) == 1

    asyncio.run(run())


def test_a_full_queue_is_an_overload_unless_another_group_has_room(
    calibrated_folder: Path,
) -> None:
    async def run() -> None:
        full, free = ScriptedGroup("1", "mini-2"), ScriptedGroup("2", "mini-2")
        full.scripts = [failing(QueueFull("full")), failing(QueueFull("full"))]
        async with running_core(calibrated_folder, full, free) as core:
            async with asyncio.timeout(5):
                while not all(member.ready for member in core.fleet.members.values()):
                    await asyncio.sleep(0.01)
            _, result = await answer(core, request(model="mini-2"))
            free.scripts = [failing(QueueFull("full"))]
            with pytest.raises(ServingError) as refused:
                await answer(core, request(model="mini-2"))
        assert len(full.tasks) == 2 and len(free.tasks) == 2 and result.fallbacks == {}
        assert (refused.value.status, refused.value.code) == (429, "overloaded")

    asyncio.run(run())


def test_a_candidate_that_keeps_failing_gets_no_requests(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)

        async def broken(task: ImageTask) -> AsyncIterator[TaskEvent]:
            if task.candidate == "mini-4":
                raise TaskFailed("broken")
            async for event in draw(task):
                yield event

        group.scripts = [broken] * 20
        async with running_core(calibrated_folder, group) as core:
            results = [(await answer(core, request(lam=0.05)))[1] for _ in range(5)]
            with pytest.raises(ServingError, match=r"mini-4.*failed repeatedly") as refused:
                await answer(core, request(model="mini-4"))
        assert [r.fallbacks for r in results] == [{"mini-4": "failed"}] * 3 + [{}] * 2
        assert results[-1].routed.excluded == {"mini-4": "unavailable"}
        assert refused.value.status == 503

    asyncio.run(run())


def test_streamed_images_are_kept_and_only_the_missing_ones_made_again(
    calibrated_folder: Path,
) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts = [failing(GroupUnavailable("killed"), after=2)]
        async with running_core(calibrated_folder, group) as core:
            image_request = request(n=3, stream=True, lam=0.05)
            events = [event async for event in core.generate(image_request)]
        assert [task.seeds for task in group.tasks] == [(7, 8, 9), (9,)]
        assert {task.candidate for task in group.tasks} == {"mini-4"}
        assert isinstance(events[0], Routed)
        assert [e.index for e in events[1:4] if isinstance(e, FinishedImage)] == [0, 1, 2]
        assert isinstance(events[4], Result) and events[4].cost == 12.0

    asyncio.run(run())


def test_a_request_fails_at_its_time_limit(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts = [hang]
        async with running_core(calibrated_folder, group, timeout=0.2) as core:
            with pytest.raises(ServingError) as failed:
                await answer(core)
        assert (failed.value.status, failed.value.code) == (503, "timeout")
        assert len(group.cancelled) == 1

    asyncio.run(run())
