"""Checks before a request reaches its handler: shutdown, API key, rate limit, method."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from catimage.serving.api.backend import Backend
from catimage.serving.api.endpoints import Endpoint, EndpointTable
from catimage.serving.api.errors import error_response, shortened
from catimage.serving.api.runtime import Runtime
from catimage.serving.limits import RateLimits
from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.telemetry.logs import bind

LONGEST_KEY = 256
"""Number of characters of an API key."""


class Guard:
    """Refuses requests before their body is read. The cheapest check comes first.

    Args:
        app: the application.
        runtime: the state of the application.
        table: the routes.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime, table: EndpointTable) -> None:
        self._app, self._runtime, self._table = app, runtime, table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        endpoints = self._table.at(scope["path"])
        try:
            await self._check(scope, endpoints)
        except ServingError as error:
            scope["state"]["error_code"] = error.code
            if self._runtime.backend is not None:
                self._runtime.backend.telemetry.rejection(error.code)
            await error_response(error)(scope, receive, send)
            return
        await self._answer(scope, receive, send, endpoints)

    async def _check(self, scope: Scope, endpoints: list[Endpoint]) -> None:
        """Check whether the request may be answered.

        Raises:
            ServingError: the service shuts down (503), the key is missing or wrong (401), or the
                rate limit is exceeded (429).
        """
        if self._runtime.draining and not any(e.health for e in endpoints):
            message = "service: shutting down. Send the request again."
            raise ServingError(message, 503, "draining", retry_after=5)
        if any(e.public for e in endpoints):
            return
        backend = self._runtime.require()
        key = await _client(backend, Headers(scope=scope).get("authorization"))
        scope["state"]["key"] = key
        if key is not None:
            bind(key_id=key.key_id)
        if backend.limiter is not None:
            await _check_rate(backend.limiter, key, (scope.get("client") or ("unknown",))[0])

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, endpoints: list[Endpoint]
    ) -> None:
        """Pass a request on; answer OPTIONS, and HEAD as GET without the body."""
        method, methods = scope["method"], {e.method for e in endpoints}
        if endpoints and method == "OPTIONS":
            allow = {"Allow": EndpointTable.methods(endpoints)}
            await Response(status_code=204, headers=allow)(scope, receive, send)
        elif method == "HEAD" and "GET" in methods:
            await self._app({**scope, "method": "GET"}, receive, _HeadersOnly(send))
        elif endpoints and method not in methods:
            scope["state"]["error_code"] = "method_not_allowed"
            allow = {"Allow": EndpointTable.methods(endpoints)}
            path = shortened(scope["path"])
            message = f"{method[:20]} {path}: no such method. Use {allow['Allow']}."
            error = ServingError(message, 405, "method_not_allowed")
            await error_response(error, allow)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _client(backend: Backend, authorization: str | None) -> ApiKey | None:
    """Return the client of a request; None if the service has no keys.

    Raises:
        ServingError: the key is missing or wrong (401).
    """
    keys = backend.state.keys
    scheme, _, secret = (authorization or "").partition(" ")
    secret = secret.strip() if scheme.lower() == "bearer" else ""
    if keys.fresh:
        exist, key = keys.exist(), keys.verify(secret[:LONGEST_KEY])
    else:
        exist = await run_in_threadpool(keys.exist)
        key = keys.verify(secret[:LONGEST_KEY])
    if key is None and exist:
        problem = "unknown or revoked API key" if secret else "no API key"
        message = f"Authorization: {problem}. Send 'Authorization: Bearer KEY'."
        raise ServingError(message, 401, "invalid_api_key")
    return key


async def _check_rate(limiter: RateLimits, key: ApiKey | None, client: str) -> None:
    """Count a request; raises ServingError (429)."""
    if limiter.blocks:
        await run_in_threadpool(limiter.check, key, client)
    else:
        limiter.check(key, client)


class _HeadersOnly:
    """Passes the headers of a response on, without its body."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)
