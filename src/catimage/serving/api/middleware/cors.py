"""Cross-origin requests of browsers, which the setting ``serving.cors_origins`` allows."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from catimage.serving.api.runtime import Runtime

EXPOSED = ["X-Request-Id", "Retry-After", "x-should-retry"]
"""Response headers that scripts of other origins may read."""


class CrossOrigin:
    """Starlette's CORSMiddleware with the settings of the backend, once it is open."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app, self._runtime = app, runtime
        self._with_cors: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        backend = self._runtime.backend
        if self._with_cors is None and backend is not None and backend.settings.cors_origins:
            self._with_cors = CORSMiddleware(
                self._app,
                allow_origins=backend.settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=EXPOSED,
            )
        await (self._with_cors or self._app)(scope, receive, send)
