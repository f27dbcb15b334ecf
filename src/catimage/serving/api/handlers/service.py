"""Health checks, metrics, the playground and the OpenAPI document."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from catimage.serving.api.document import html_document, openapi_document
from catimage.serving.api.errors import error_headers
from catimage.serving.api.json_response import json_response
from catimage.serving.api.runtime import runtime_of
from catimage.serving.messages import ServingError

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the playground: nothing from other origins, nothing inline."""
_PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/playground.js": ("playground.js", "text/javascript"),
    "/playground.css": ("playground.css", "text/css"),
}


async def get_live(_: Request) -> Response:
    """Handle ``GET /livez`` and ``GET /healthz``: the process responds."""
    return json_response({"status": "alive"})


async def get_ready(request: Request) -> Response:
    """Handle ``GET /readyz``: 200 if requests can be answered, else 503 and the reason."""
    ready, document = runtime_of(request).readiness()
    if ready:
        return json_response(document)
    headers = error_headers(ServingError("not ready", 503, retry_after=2))
    return json_response(document, 503, headers)


async def get_metrics(request: Request) -> Response:
    """Handle ``GET /metrics`` in Prometheus' format."""
    telemetry = runtime_of(request).require().telemetry
    content, media_type = await run_in_threadpool(telemetry.exposition)
    return Response(content, media_type=media_type)


async def get_page(request: Request) -> Response:
    """Handle ``GET /`` and the files of the playground."""
    name, media_type = _PAGE_FILES[request.scope["path"].removeprefix(_root(request)) or "/"]
    headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}
    return Response(_page_file(name), headers=headers, media_type=media_type)


async def get_openapi(request: Request) -> Response:
    """Handle ``GET /openapi.json``."""
    return json_response(openapi_document(request.app, runtime_of(request).backend))


async def get_docs(request: Request) -> Response:
    """Handle ``GET /docs``: the OpenAPI document as a page without scripts."""
    document = openapi_document(request.app, runtime_of(request).backend)
    headers = {"Content-Security-Policy": PAGE_POLICY}
    return Response(html_document(document), headers=headers, media_type="text/html")


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", ""))


@cache
def _page_file(name: str) -> bytes:
    return (files("catimage.serving") / "playground" / name).read_bytes()
