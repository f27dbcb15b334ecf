"""A core on a workspace with a trained router, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from catimage.params.serving import ServingParams
from catimage.serving.core import Core
from catimage.serving.generator.client import Group
from catimage.serving.messages import ImageRequest, Result, Routed, RouteRequest, ServedEvent
from catimage.serving.state.store import State
from catimage.serving.tasks import FinishedImage
from catimage.serving.telemetry.facade import Telemetry
from catimage.workspace import Workspace

CANDIDATES = ("mini-1", "mini-2", "mini-4")
REQUEST = ImageRequest(prompt="crowded amber basil number 1", request_id="r", draw="r", seed=7)


def request(**changes: Any) -> ImageRequest:
    """Return a request for one image with some fields changed."""
    return replace(REQUEST, **changes)


class Log(Telemetry):
    """Telemetry that keeps the decisions.

    Attributes:
        rows: the request, the result and the status of each decision.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[RouteRequest, Result | None, int]] = []

    def decision(
        self,
        routed: Routed,
        request: RouteRequest,
        result: Result | None,
        status: int,
        seconds: float | None = None,
    ) -> None:
        super().decision(routed, request, result, status, seconds)
        self.rows.append((request, result, status))


@asynccontextmanager
async def running_core(
    root: Path,
    *groups: Group,
    state: State | None = None,
    telemetry: Telemetry | None = None,
    seconds: float = 60,
    **settings: Any,
) -> AsyncIterator[Core]:
    """Start a core and wait until it is ready.

    Args:
        root: the folder of a workspace.
        groups: the generator groups.
        state: the state; by default a new SQLite file.
        telemetry: metrics and logs.
        seconds: time limit of the start.
        settings: keys of the section ``serving``.
    """
    folder = TemporaryDirectory()
    database = state or State.open(f"sqlite:///{folder.name}/state.db")
    params = ServingParams.model_validate(settings)
    named = {group.name: group for group in groups}
    core = Core(Workspace(root), params, named, database, telemetry)
    await core.start()
    try:
        async with asyncio.timeout(seconds):
            while not core.ready:
                await asyncio.sleep(0.01)
        yield core
    finally:
        await core.close()
        if state is None:
            database.close()
        folder.cleanup()


async def answer(
    core: Core, image_request: ImageRequest = REQUEST
) -> tuple[list[FinishedImage], Result]:
    """Return the images of a request, and its result."""
    events: list[ServedEvent] = [event async for event in core.generate(image_request)]
    result = events[-1]
    assert isinstance(result, Result)
    return [e for e in events if isinstance(e, FinishedImage)], result
