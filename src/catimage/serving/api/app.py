"""The HTTP application of the router process, a FastAPI application that BentoML mounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import Response

from catimage.serving.api.document import operation_fields, responses
from catimage.serving.api.endpoints import EndpointTable
from catimage.serving.api.errors import on_http_error, on_serving_error
from catimage.serving.api.middleware.context import RequestContext
from catimage.serving.api.middleware.cors import CrossOrigin
from catimage.serving.api.middleware.guard import Guard
from catimage.serving.api.routes import ENDPOINTS
from catimage.serving.api.runtime import OpenBackend, Runtime
from catimage.serving.messages import ServingError

DESCRIPTION = """OpenAI's image API in front of a router, which selects a generator for each prompt:
the best expected quality minus lambda times cost, within an average budget."""


def create_app(open_backend: OpenBackend) -> FastAPI:
    """Return the application. Its lifespan opens the backend in the background.

    Nothing is read or opened before the lifespan begins. ``app.state.runtime`` is the
    :class:`~catimage.serving.api.runtime.Runtime`, whose method ``drain`` refuses new requests.

    Args:
        open_backend: coroutine function that opens the core, the state and the telemetry. It is
            called again after a pause if it raises an exception. It must not block the event loop.
    """
    runtime, table = Runtime(open_backend), EndpointTable(ENDPOINTS)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        runtime.start()
        try:
            yield
        finally:
            await runtime.stop()

    app = FastAPI(
        title="CATImage",
        version=version("catimage"),
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers={ServingError: on_serving_error, HTTPException: on_http_error},
    )
    app.state.runtime, app.state.table = runtime, table
    _add_routes(app, table)
    app.add_middleware(Guard, runtime=runtime, table=table)
    app.add_middleware(CrossOrigin, runtime=runtime)
    app.add_middleware(RequestContext, runtime=runtime, table=table)
    return app


def _add_routes(app: FastAPI, table: EndpointTable) -> None:
    for endpoint in table.endpoints:
        app.add_api_route(
            endpoint.path,
            endpoint.handler,
            methods=[endpoint.method],
            summary=endpoint.summary,
            operation_id=f"{endpoint.handler.__name__}_{endpoint.path.strip('/') or 'index'}",
            status_code=next(iter(endpoint.answers)),
            response_class=Response,
            response_model=None,
            responses=responses(endpoint),
            openapi_extra=operation_fields(endpoint),
        )
