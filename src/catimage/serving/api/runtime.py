"""The state of the application: the backend, which is opened in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from catimage.errors import InputError, error_summary
from catimage.serving.api.backend import Backend
from catimage.serving.api.job_answers import job_answers
from catimage.serving.messages import JsonObject, ServingError

_LOG = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds between two attempts to open the backend; the pause doubles with each attempt."""

OpenBackend = Callable[[], Awaitable[Backend]]
"""Opens the backend. It is called in the background, and again if it fails."""


class Runtime:
    """Opens the backend without delaying the start of the application.

    Attributes:
        backend: the backend; None until it is open.
        error: why the backend is not open yet.
        draining: whether new requests are refused, because the service shuts down.
    """

    def __init__(self, open_backend: OpenBackend) -> None:
        self._open_backend = open_backend
        self._task: asyncio.Task[None] | None = None
        self.backend: Backend | None = None
        self.error = "the service is starting"
        self.draining = False

    def start(self) -> None:
        """Start to open the backend in the running event loop, and return at once."""
        self._task = asyncio.create_task(self._open())

    async def stop(self) -> None:
        """Cancel the work that is left, write the logs, and close the backend."""
        self.draining = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.backend is not None:
            await self.backend.core.close()
            await run_in_threadpool(self.backend.telemetry.close)
            await run_in_threadpool(self.backend.state.close)

    def drain(self) -> None:
        """Refuse new requests with 503; accepted requests continue."""
        self.draining = True
        if self.backend is not None:
            self.backend.core.drain()

    def require(self) -> Backend:
        """Return the backend.

        Raises:
            ServingError: it is not open yet (503).
        """
        if self.backend is None:
            message = f"service: not ready ({self.error}). Try again later."
            raise ServingError(message, 503, "starting", retry_after=2)
        return self.backend

    def readiness(self) -> tuple[bool, JsonObject]:
        """Return whether requests can be answered, and the document with the reason if not."""
        if self.draining:
            return False, {"status": "draining", "reason": "the service is shutting down"}
        if self.backend is None:
            return False, {"status": "starting", "reason": self.error}
        ready, details = self.backend.core.ready, self.backend.core.status()
        status = "ready" if ready else "not_ready"
        return ready, {"status": status} | details

    async def _open(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                backend = await self._open_backend()
                await backend.core.start()
                backend.core.jobs.use(job_answers(backend))
                self.backend = backend
                return
            except Exception as error:
                self.error = str(error) if isinstance(error, InputError) else error_summary(error)
                _LOG.exception("the service cannot start yet; next attempt in %.0f s", pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def runtime_of(request: Request) -> Runtime:
    """Return the state of the application that answers a request."""
    runtime: Runtime = request.app.state.runtime
    return runtime
