"""A generator group whose behaviour is scripted, as httpx's MockTransport is for HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import numpy as np

from catimage.serving.generator.failures import GroupUnavailable
from catimage.serving.tasks import (
    CandidateLoad,
    FinishedImage,
    FinishedTask,
    GroupStatus,
    ImageTask,
    TaskEvent,
)

FAST = CandidateLoad(seconds=0.01, batch_seconds=0.005, batch_size=8)
"""The speed of the candidates unless a test sets another."""

Script = Callable[[ImageTask], AsyncIterator[TaskEvent]]


def pixels_of(task: ImageTask, index: int) -> np.ndarray:
    """Return pixels that depend on the candidate and the seed only, (8, 8, 3)."""
    value = (sum(task.candidate.encode()) + task.seeds[index]) % 256
    return np.full((8, 8, 3), value, np.uint8)


async def draw(task: ImageTask, images: int | None = None) -> AsyncIterator[TaskEvent]:
    """Make the first ``images`` images of a task, and end it if they are all."""
    for i in range(len(task.seeds) if images is None else images):
        await asyncio.sleep(0)
        yield FinishedImage(i, pixels_of(task, i))
    if images is None:
        yield FinishedTask(0.001, 0.002, len(task.seeds))


async def hang(task: ImageTask) -> AsyncIterator[TaskEvent]:
    """Never send an event."""
    await asyncio.Event().wait()
    yield FinishedTask(0.0, 0.0, 1)


class ScriptedGroup:
    """A group that behaves as the scripts say, one script per task; then it works.

    Attributes:
        scripts: what the next tasks do; :func:`draw` if the list is empty.
        tasks: the tasks that were received.
        cancelled: the tasks that were cancelled.
        draining: whether the status says that it is shutting down.
        up: whether the group answers at all.
        queue_seconds: the wait that the status reports.
    """

    def __init__(self, name: str = "g", *candidates: str, load: CandidateLoad = FAST) -> None:
        self.name, self.loads = name, dict.fromkeys(candidates, load)
        self.scripts: list[Script] = []
        self.tasks: list[ImageTask] = []
        self.cancelled: list[ImageTask] = []
        self.up, self.draining, self.queue_seconds = True, False, 0.0
        self.paid: frozenset[str] = frozenset()

    async def status(self) -> GroupStatus:
        if not self.up:
            raise GroupUnavailable(f"group {self.name!r}: down. Try again later.")
        seconds = self.queue_seconds
        return GroupStatus(
            self.name, True, self.draining, self.loads, queue_seconds=seconds, paid=self.paid
        )

    async def run(self, task: ImageTask) -> AsyncIterator[TaskEvent]:
        if not self.up:
            raise GroupUnavailable(f"group {self.name!r}: down. Try again later.")
        self.tasks.append(task)
        script = self.scripts.pop(0) if self.scripts else draw
        try:
            async for event in script(task):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(task)
            raise

    async def ended(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        with suppress(ValueError):
            self.scripts.clear()
