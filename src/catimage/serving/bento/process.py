"""The process of a service: ends after accepted requests, and with the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any

from catimage.serving.bento.header_timeout import limit_header_time

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

CHECK_SECONDS = 0.5
"""Interval at which the process checks whether its parent process runs."""
CLOSE_SECONDS = 1
"""Time after the end of the last accepted request after which open connections are closed."""
FAREWELL_SECONDS = 0.3
"""Time in which each answer closes its connection, before the remaining connections are closed, so
that no request is sent on a connection at the moment at which it is closed.
"""
EXIT_SECONDS = 3.0
"""Time after the last accepted request, or ``drain_seconds``, after which the process ends."""
STOP_SIGNAL = signal.SIGINT
"""The signal with which the supervisor stops the process that clients connect to."""

_LOG = logging.getLogger(__name__)


class GracefulApp:
    """An ASGI application whose process completes accepted requests after SIGTERM or SIGINT.

    uvicorn stops accepting connections as soon as it receives the signal, so that new requests
    would wait for the end of the supervisor, which keeps the socket open. This class first calls
    ``drain``, after which the application refuses new requests, waits for accepted requests, and
    then passes the signal on to uvicorn. A second signal ends the process.

    SIGINT (:data:`STOP_SIGNAL`) means that the whole service ends, so that new connections are
    refused. After SIGTERM, the supervisor starts the process again, and it accepts the connections
    that were made in the meantime.

    The process also ends if its parent process, the supervisor, has ended.

    Args:
        app: the application.
        drain: makes the application refuse new requests, or, if it is a coroutine function, waits
            until there are none.
        seconds: seconds that accepted requests have to finish.
        cleanup: removes files that the supervisor has left if it has ended before this process.
    """

    def __init__(
        self,
        app: AsgiApp,
        drain: Callable[[], object],
        seconds: float,
        cleanup: Callable[[], None],
    ) -> None:
        self._app, self._drain, self._seconds, self._cleanup = app, drain, seconds, cleanup
        self._running: set[int] = set()
        self._numbers, self._orphaned, self._closing = 0, False, False
        self._draining: asyncio.Task[None] | None = None
        self._handlers: dict[int, Any] = {}

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass a request on to the application, and count it until it has ended."""
        if scope["type"] == "lifespan":
            self._install()
            await self._app(scope, receive, send)
            return
        self._numbers += 1
        number = self._numbers
        self._running.add(number)

        async def send_or_close(message: Message) -> None:
            if self._closing and message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        if self._closing:
            await _discard_body(receive)
        try:
            await self._app(scope, receive, send_or_close)
        finally:
            self._running.discard(number)

    def _install(self) -> None:
        """Replace the signal handlers of uvicorn, and watch the parent process."""
        if threading.current_thread() is not threading.main_thread():
            return  # a server in a thread, which handles no signals
        loop = asyncio.get_running_loop()

        def on_signal(number: int, _: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._start_draining, number)

        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.getsignal(number)
            signal.signal(number, on_signal)
        if server := self._server():
            server.config.timeout_graceful_shutdown = CLOSE_SECONDS
            limit_header_time(server.config)
        watch = threading.Thread(target=self._watch_parent, args=(os.getppid(),), daemon=True)
        watch.start()

    def _server(self) -> Any:
        """Return the uvicorn.Server, which has installed the replaced signal handlers."""
        return getattr(self._handlers[signal.SIGTERM], "__self__", None)

    def _start_draining(self, number: int) -> None:
        if self._draining is not None:
            _LOG.warning("second signal: the process ends at once")
            os._exit(128 + number)
        _exit_after(self._seconds + EXIT_SECONDS)
        self._draining = asyncio.create_task(self._finish(number))

    async def _finish(self, number: int) -> None:
        """Wait for the requests that were accepted before the signal, and let uvicorn exit."""
        accepted, end = set(self._running), time.monotonic() + self._seconds
        _LOG.info("shutting down after %d accepted requests", len(accepted))
        draining = self._drain()
        if inspect.isawaitable(draining):
            await draining
        while accepted & self._running and time.monotonic() < end:
            await asyncio.sleep(0.05)
        if left := accepted & self._running:
            _LOG.warning("%d requests did not end within %.0f s", len(left), self._seconds)
        if self._orphaned:
            self._cleanup()
        if self._orphaned or number == STOP_SIGNAL:
            self._stop_listening()
        self._closing = True
        await asyncio.sleep(FAREWELL_SECONDS)
        _exit_after(EXIT_SECONDS)  # such as while models are being loaded
        self._handlers[signal.SIGTERM](signal.SIGTERM, None)

    def _stop_listening(self) -> None:
        """Refuse new connections.

        The supervisor and its other processes have copies of the listening socket. Without this,
        connections would wait for a process that accepts them until all of them have ended. The
        socket of a generator service stays open for the next process: only the router connects.
        """
        for listener in getattr(self._server(), "servers", ()):
            for listening in listener.sockets:
                if listening.family == socket.AF_UNIX:
                    continue
                with (
                    contextlib.suppress(OSError),  # not supported by the operating system
                    socket.socket(fileno=os.dup(listening.fileno())) as copy,
                ):
                    copy.shutdown(socket.SHUT_RDWR)

    def _watch_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(CHECK_SECONDS)
        _LOG.warning("the supervisor has ended; this process ends, too")
        self._orphaned = True
        os.kill(os.getpid(), signal.SIGTERM)


async def _discard_body(receive: Callable[[], Awaitable[Message]]) -> None:
    """Read the body of a request that is refused: closing a connection with unread data resets it,
    and the client may lose the answer.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL_SECONDS):
            while (await receive()).get("more_body"):
                pass


def end_process() -> None:
    """End this process at once, so that the supervisor starts it again."""
    os._exit(1)


def _exit_after(seconds: float) -> None:
    """End the process after some seconds in any case."""
    timer = threading.Timer(seconds, _exit_now)
    timer.daemon = True
    timer.start()


def _exit_now() -> None:
    _LOG.error("the process did not end in time and is stopped")
    os._exit(1)
