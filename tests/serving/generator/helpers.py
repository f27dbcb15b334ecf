"""Engines with generators of the tiny pool, and functions that run tasks."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import numpy as np

from catimage.serving.generator.engine import Engine
from catimage.serving.tasks import FinishedImage, FinishedTask, ImageTask, TaskEvent


def start(engine: Engine, measured: bool = True) -> Engine:
    """Start an engine, and wait until it is ready and measured."""
    engine.start()
    deadline = time.monotonic() + 120
    while not (engine.measured if measured else engine.status().ready):
        assert not engine.status().error, engine.status().error
        assert time.monotonic() < deadline, "not ready after 120 s"
        time.sleep(0.02)
    return engine


def task(candidate: str, seeds=(1,), prompt="two small red rings", **fields) -> ImageTask:
    """Return a task."""
    return ImageTask(fields.pop("request_id", "r"), candidate, prompt, tuple(seeds), **fields)


async def events_of(engine, of: ImageTask) -> list[TaskEvent]:
    """Run a task, and return its events."""
    async with aclosing(engine.submit(of)) as events:
        return [event async for event in events]


def run(engine, *tasks: ImageTask) -> list[list[TaskEvent]]:
    """Run tasks at the same time, and return the events of each."""

    async def gather() -> list[list[TaskEvent]]:
        return await asyncio.gather(*(events_of(engine, of) for of in tasks))

    return asyncio.run(gather())


def images(events: list[TaskEvent]) -> np.ndarray:
    """Return the images of a task in the order of its seeds, (n, height, width, 3)."""
    assert isinstance(events[-1], FinishedTask)
    finished = {e.index: e.pixels for e in events if isinstance(e, FinishedImage)}
    return np.stack([finished[i] for i in range(len(finished))])
