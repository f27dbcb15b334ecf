"""A service module whose processes answer without models, for the tests of the processes.

``/slow?seconds=S`` of the router waits for the generator service, which waits S seconds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
import bentoml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from catimage.serving.bento import standby
from catimage.serving.bento.addresses import group_urls
from catimage.serving.bento.applications import remove_sockets
from catimage.serving.bento.process import AsgiApp, GracefulApp, end_process
from catimage.serving.bento.services import (
    GroupProcess,
    GroupService,
    RouterProcess,
    RouterService,
    depends,
    group_options,
    router_options,
)

REMOVE_SOCKETS = partial(remove_sockets, ["generators"])
DRAIN_SECONDS = float(os.environ.get("CATIMAGE_SERVING__DRAIN_SECONDS", "6"))


def stub(routes: dict[str, Any], cleanup: Callable[[], None]) -> AsgiApp:
    """Return an application that refuses requests with 503 after the signal."""
    draining = asyncio.Event()

    def guarded(handler: Any) -> Any:
        async def handle(request: Request) -> JSONResponse:
            if draining.is_set():
                return JSONResponse({}, 503)
            return JSONResponse(await handler(request))

        return handle

    app = Starlette(routes=[Route(path, guarded(handler)) for path, handler in routes.items()])
    return GracefulApp(app, draining.set, DRAIN_SECONDS, cleanup)


async def pid(_: Request) -> dict[str, int]:
    return {"pid": os.getpid()}


async def wait(request: Request) -> dict[str, int]:
    await asyncio.sleep(float(request.query_params["seconds"]))
    return {"pid": os.getpid()}


async def end(_: Request) -> dict[str, int]:
    """End the process as after the failure of an engine."""
    asyncio.get_running_loop().call_later(0.5, end_process)
    return {"pid": os.getpid()}


async def forward(request: Request) -> Any:
    """Request the same path and query of the generator service, after a pause."""
    await asyncio.sleep(float(request.query_params.get("pause", "0")))
    path = group_urls(["generators"])["generators"].removeprefix("unix://")
    connector = aiohttp.UnixConnector(path)
    async with aiohttp.ClientSession("http://generators", connector=connector) as session:
        target = f"{request.url.path.removeprefix('/group')}?{request.url.query}"
        async with session.get(target) as response:
            return await response.json()


class StubGroupService(GroupService):
    def to_asgi(self, is_main: bool = True) -> AsgiApp:
        standby.SHORTEST_SECONDS = 0.1
        standby.serve_in_child(REMOVE_SOCKETS)
        return stub({"/pid": pid, "/wait": wait, "/end": end}, lambda: None)


class StubRouterService(RouterService):
    def to_asgi(self, is_main: bool = True) -> AsgiApp:
        paths = ("/group/pid", "/group/wait", "/group/end")
        return stub({"/pid": pid, "/wait": wait} | dict.fromkeys(paths, forward), REMOVE_SOCKETS)


@bentoml.service(name="generators", **group_options(gpus=0) | {"service_class": StubGroupService})
class Generators(GroupProcess):
    drain_seconds = DRAIN_SECONDS


@bentoml.service(name="router", **router_options() | {"service_class": StubRouterService})
class Router(RouterProcess):
    drain_seconds = DRAIN_SECONDS
    generators = depends(Generators)
