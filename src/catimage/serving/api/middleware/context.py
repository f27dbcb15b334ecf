"""The outermost middleware: request ids, security headers, the access log, unexpected errors."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catimage.serving.api.endpoints import EndpointTable
from catimage.serving.api.errors import CLIENT_CLOSED_REQUEST, error_response, serving_error
from catimage.serving.api.runtime import Runtime
from catimage.serving.messages import ServingError
from catimage.serving.telemetry.logs import request_logged
from catimage.serving.telemetry.tracing import tracing

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
UNMATCHED = "not_found"
"""Name of the route of unknown paths in logs and metrics."""
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every response that does not set them itself."""


class RequestContext:
    """Gives every request an identifier, and reports it when it has ended.

    The header ``X-Request-Id`` of the request is accepted if it has at most 128 printable ASCII
    characters without blanks; otherwise a new identifier is drawn. Responses have it, too.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime, table: EndpointTable) -> None:
        self._app, self._runtime, self._table = app, runtime, table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, state = time.perf_counter(), scope.setdefault("state", {})
        given = Headers(scope=scope).get("x-request-id", "")
        state["request_id"] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        sender = _Sender(send, state["request_id"])
        with (
            request_logged(state["request_id"]),
            self._in_progress(scope["path"]),
            tracing().span("request", headers=Headers(scope=scope)) as span,
        ):
            try:
                await self._app(scope, receive, sender)
            except Exception as error:
                found = serving_error(error)
                state["error_code"] = found.code
                if sender.status:
                    raise RuntimeError("the response had started") from None
                await error_response(found)(scope, receive, sender)
            except asyncio.CancelledError:  # the time that accepted requests have is over
                if sender.status:
                    raise
                state["error_code"] = "draining"
                await error_response(_stopped())(scope, receive, sender)
            finally:
                status = state.get("status", sender.status or CLIENT_CLOSED_REQUEST)
                span.set(request_id=state["request_id"], method=scope["method"], status=status)
                self._report(scope, status, time.perf_counter() - started)

    @contextmanager
    def _in_progress(self, path: str) -> Iterator[None]:
        """Count a request in ``catimage_requests_in_progress``."""
        if self._runtime.backend is None:
            yield
            return
        telemetry, route = self._runtime.backend.telemetry, self._route(path)
        telemetry.in_progress(route, 1)
        try:
            yield
        finally:
            telemetry.in_progress(route, -1)

    def _route(self, path: str) -> str:
        endpoints = self._table.at(path)
        return endpoints[0].template if endpoints else UNMATCHED

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        if self._runtime.backend is None:
            return
        telemetry, code = self._runtime.backend.telemetry, scope["state"].get("error_code", "")
        telemetry.request(self._route(scope["path"]), status, seconds, scope["method"], code)
        if status in (408, 413):
            telemetry.rejection(code)


def _stopped() -> ServingError:
    message = "service: it shut down before the request ended. Send the request again."
    return ServingError(message, 503, "draining", retry_after=5)


class _Sender:
    """Adds the headers to a response, and records its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id, self.status = send, request_id, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)
