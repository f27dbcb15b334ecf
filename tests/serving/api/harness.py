"""The whole HTTP application in this process: the real core, state and telemetry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from fastapi import FastAPI

from catimage.params.serving import ServingParams
from catimage.serving.api.app import create_app
from catimage.serving.api.backend import Backend
from catimage.serving.core import Core
from catimage.serving.generator.client import Group
from catimage.serving.limits import RateLimits
from catimage.serving.state.store import State
from catimage.serving.telemetry.facade import Telemetry
from catimage.workspace import Workspace
from tests.serving.cores import CANDIDATES
from tests.serving.groups import ScriptedGroup

BASE = "http://testserver"
GENERATIONS = "/v1/images/generations"
PROMPT = "crowded amber basil number 1"


@dataclass(frozen=True)
class Service:
    """A running application.

    Attributes:
        app: the application.
        client: an HTTP client of it.
        backend: its parts.
    """

    app: FastAPI
    client: httpx.AsyncClient
    backend: Backend

    async def generate(self, **fields: Any) -> httpx.Response:
        """Send a request for images; the prompt is :data:`PROMPT` unless a field says otherwise."""
        return await self.client.post(GENERATIONS, json={"prompt": PROMPT, **fields})

    async def document(self, **fields: Any) -> dict[str, Any]:
        """Return the answer to a request for images, which must succeed."""
        response = await self.generate(**fields)
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def error(self, **fields: Any) -> dict[str, Any]:
        """Return the error of a request for images, with its ``status``."""
        response = await self.generate(**fields)
        assert response.status_code >= 400, response.text
        return {"status": response.status_code, **response.json()["error"]}

    def set_draining(self) -> None:
        """Refuse new requests."""
        self.app.state.runtime.drain()


@contextmanager
def application(root: Path, *groups: Group, **settings: Any) -> Iterator[tuple[FastAPI, Backend]]:
    """Return an application on a workspace, which its lifespan starts, and its parts.

    Args:
        root: the folder of the workspace.
        groups: the generator groups.
        settings: keys of the section ``serving``.
    """
    with TemporaryDirectory() as folder:
        state = State.open(f"sqlite:///{folder}/state.db", refresh_seconds=0.01)
        params = ServingParams.model_validate(settings)
        telemetry = Telemetry()
        core = Core(Workspace(root), params, {g.name: g for g in groups}, state, telemetry)
        limiter = RateLimits(params.rate_limit)
        backend = Backend(core, state, telemetry, params, state.secret("urls"), limiter)

        async def open_backend() -> Backend:
            return backend

        yield create_app(open_backend), backend


@asynccontextmanager
async def running_app(root: Path, *groups: Group, **settings: Any) -> AsyncIterator[Service]:
    """Start the application (:func:`application`), and wait until it is ready."""
    with application(root, *groups, **settings) as (app, backend):
        async with app.router.lifespan_context(app):
            async with asyncio.timeout(60):
                while not backend.core.ready:
                    await asyncio.sleep(0.01)
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                yield Service(app, client, backend)


def run(root: Path, check: Any, *scripts: Any, **settings: Any) -> ScriptedGroup:
    """Run a check of a service whose first tasks behave as the scripts say."""
    group = ScriptedGroup("g", *CANDIDATES)
    group.scripts += scripts

    async def main() -> None:
        async with running_app(root, group, **settings) as service:
            await check(service)

    asyncio.run(main())
    return group
