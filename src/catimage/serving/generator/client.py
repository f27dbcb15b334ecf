"""Clients of generator services: over HTTP, or in the same process."""

from __future__ import annotations

import asyncio
import json
from asyncio import IncompleteReadError
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import aiohttp

from catimage.serving.generator.failures import (
    GenerationFailure,
    GroupUnavailable,
    TaskTimedOut,
    failure_of,
)
from catimage.serving.generator.wire import decode_status, encode_task, read_event
from catimage.serving.tasks import FinishedTask, GroupStatus, ImageTask, TaskEvent

STATUS_SECONDS = 5.0
"""Time limit of a request for the state of a service."""
GRACE_SECONDS = 2.0
"""Time after the limit of a task in which the service can report that the limit has passed."""

Headers = Callable[[], dict[str, str]]
"""Returns headers of the current request, such as those of OpenTelemetry's trace context."""


class GeneratorGroup(Protocol):
    """A generator service, as the router uses it.

    Attributes:
        name: name of the group.
    """

    name: str

    async def status(self) -> GroupStatus:
        """Return the state of the service.

        Raises:
            GroupUnavailable: the service does not answer.
        """

    def run(self, task: ImageTask) -> AsyncGenerator[TaskEvent, None]:
        """Run a task. The last event is a FinishedTask.

        The work is cancelled when the iterator is closed (``aclose``) or the asyncio task that
        iterates is cancelled. Wrap the iterator in ``contextlib.aclosing``.

        Raises:
            GenerationFailure: the task fails; see :mod:`catimage.serving.generator.failures`.
        """

    async def ended(self) -> None:
        """Return when the process of the service has ended.

        Raises:
            GroupUnavailable: it cannot be observed.
        """

    async def close(self) -> None:
        """Close connections."""


Group = GeneratorGroup


class LocalEngine(Protocol):
    """The part of :class:`catimage.serving.generator.engine.Engine` that LocalGroup uses."""

    def submit(self, task: ImageTask) -> AsyncGenerator[TaskEvent, None]:
        """Run a task."""

    def status(self) -> GroupStatus:
        """Return the state of the engine."""


class LocalGroup:
    """A group whose engine runs in this process, for tests and for single-process use."""

    def __init__(self, name: str, engine: LocalEngine) -> None:
        self.name = name
        self._engine = engine

    async def status(self) -> GroupStatus:
        """Return the state of the engine."""
        return self._engine.status()

    def run(self, task: ImageTask) -> AsyncGenerator[TaskEvent, None]:
        """Run a task; see :meth:`GeneratorGroup.run`."""
        return self._engine.submit(task)

    async def ended(self) -> None:
        """Never return: this process is that of the engine."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Do nothing: the owner of the engine closes it."""


class RemoteGroup:
    """A group whose engine runs in another process or on another machine.

    The client has one session. Each task has a connection of its own, so that no task fails
    because the service has closed an idle connection. Nothing is sent twice.

    Args:
        name: name of the group.
        url: ``http://HOST:PORT``, or ``unix:///PATH`` or ``file:///PATH`` for a socket.
        headers: returns further headers of each request.
    """

    def __init__(self, name: str, url: str, headers: Headers | None = None) -> None:
        self.name = name
        self._url, self._headers = url, headers or dict
        self._session: aiohttp.ClientSession | None = None
        self._paid: frozenset[str] = frozenset()

    async def status(self) -> GroupStatus:
        """Return the state of the service; see :meth:`GeneratorGroup.status`."""
        timeout = aiohttp.ClientTimeout(STATUS_SECONDS)
        try:
            request = self._open().get("/v1/status", headers=self._headers(), timeout=timeout)
            async with request as response:
                status = decode_status(await response.read())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unavailable(error) from error
        self._paid = status.paid
        return status

    async def run(self, task: ImageTask) -> AsyncGenerator[TaskEvent, None]:
        """Run a task; see :meth:`GeneratorGroup.run`.

        If the connection fails while a paid image may have been requested, the failure is a
        TaskTimedOut with ``billed``.
        """
        async with aclosing(self._events(task)) as events:
            while True:
                try:
                    event = await anext(events)
                except aiohttp.ClientConnectorError as error:
                    raise self._unavailable(error) from error
                except TimeoutError as error:
                    raise self._timed_out(task, "did not answer within the time limit") from error
                except (aiohttp.ClientError, OSError, IncompleteReadError, ValueError) as error:
                    if task.candidate in self._paid:
                        raise self._timed_out(task, "ended in the middle of a task") from error
                    raise self._unavailable(error) from error
                if isinstance(event, GenerationFailure):
                    raise event
                yield event
                if isinstance(event, FinishedTask):
                    return

    async def _events(self, task: ImageTask) -> AsyncGenerator[TaskEvent | GenerationFailure, None]:
        """Send a task, and yield the frames of the response."""
        deadline = asyncio.get_running_loop().time() + task.timeout + GRACE_SECONDS
        body, headers = encode_task(task), {"content-type": "application/json", **self._headers()}
        request = self._open().post("/v1/tasks", data=body, headers=headers)
        async with asyncio.timeout_at(deadline):
            response = await request
        async with response:
            if response.status != 200:
                async with asyncio.timeout_at(deadline):
                    document = json.loads(await response.read())
                yield failure_of(document)
                return
            while True:
                async with asyncio.timeout_at(deadline):
                    event = await read_event(response.content.readexactly)
                yield event

    async def ended(self) -> None:
        """Wait for the end of a response that the service never ends by itself."""
        try:
            async with self._open().get("/v1/end", headers=self._headers()) as response:
                if response.status != 200:
                    raise GroupUnavailable(f"group {self.name!r}: its end cannot be observed.")
                with suppress(aiohttp.ClientError, OSError):  # the connection has ended
                    await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(error) from error

    async def close(self) -> None:
        """Close the session. Tasks that run are cancelled."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        """Return the session, which is created on first use in the running event loop."""
        if self._session is None:
            base, connector = _connector(self._url)
            self._session = aiohttp.ClientSession(
                base,
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=STATUS_SECONDS),
                read_bufsize=1 << 20,
            )
        return self._session

    def _unavailable(self, error: Exception) -> GroupUnavailable:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".")
        return GroupUnavailable(
            f"group {self.name!r}: the service does not answer ({reason}). Try again later."
        )

    def _timed_out(self, task: ImageTask, problem: str) -> TaskTimedOut:
        return TaskTimedOut(
            f"group {self.name!r}: the service {problem}. Try again later.",
            billed=task.candidate in self._paid,
        )


def _connector(url: str) -> tuple[str, Any]:
    """Return the base URL of requests, and a connector without a limit of connections."""
    parts = urlsplit(url)
    options: dict[str, Any] = {"limit": 0, "force_close": True}
    if parts.scheme in ("unix", "file"):
        return "http://localhost", aiohttp.UnixConnector(path=unquote(parts.path), **options)
    return url, aiohttp.TCPConnector(**options)
