"""An engine that is created in the background, so that its service answers at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from catimage.errors import InputError
from catimage.serving.generator.engine import Engine
from catimage.serving.generator.failures import GroupUnavailable
from catimage.serving.tasks import GroupStatus, ImageTask, TaskEvent

REPORT_SECONDS = 1.0
"""Time in which the failures of the tasks are sent before the process is restarted."""
RESTART_SECONDS = 30.0
"""Shortest time between the start of a process and its restart after a failure."""
_LOG = logging.getLogger(__name__)


class BackgroundEngine:
    """Creates and starts an engine in a thread. Meanwhile, tasks are refused.

    An error is in the state. One that a restart cannot correct, such as a missing file, does not
    end the process. After others, such as a lost device, ``restart`` is called, at the earliest
    :data:`RESTART_SECONDS` after the start, so that the process is not restarted in quick
    succession.

    Args:
        create: creates the engine; it may read files and raise exceptions.
        group: name of the group.
        restart: ends the process, so that the supervisor starts it again.
    """

    def __init__(
        self, create: Callable[[], Engine], group: str, restart: Callable[[], None] = lambda: None
    ) -> None:
        self._create, self._group, self._restart = create, group, restart
        self._engine: Engine | None = None
        self._error = ""
        self._closed, self._lock = threading.Event(), threading.Lock()

    def start(self) -> None:
        """Create and start the engine in the background."""
        threading.Thread(target=self._start, daemon=True, name=self._group).start()

    def _start(self) -> None:
        began = time.monotonic()
        if self._runs():
            return
        left = RESTART_SECONDS - (time.monotonic() - began)
        if not self._closed.wait(max(left, REPORT_SECONDS)):
            _LOG.error("group %s: the process ends, to be restarted", self._group)
            self._restart()

    def _runs(self) -> bool:
        """Run the engine; return False when it has failed and a restart may help."""
        try:
            engine = self._create()
        except Exception as error:  # reported by status(), so that the operator sees the reason
            self._error = str(error) or type(error).__name__
            expected = isinstance(error, InputError)
            _LOG.error("group %s: %s", self._group, self._error, exc_info=not expected)
            return expected
        with self._lock:
            if self._closed.is_set():
                return True
            engine.start()
            self._engine = engine
        engine.lost.wait()
        return self._closed.is_set()

    async def submit(self, task: ImageTask) -> AsyncGenerator[TaskEvent, None]:
        """Run a task; see :meth:`Engine.submit`."""
        if self._engine is None:
            reason = self._error.rstrip(".") or "it is starting"
            raise GroupUnavailable(f"group {self._group!r}: {reason}. Try again later.")
        async with aclosing(self._engine.submit(task)) as events:
            async for event in events:
                yield event

    def status(self) -> GroupStatus:
        """Return the state of the engine; without one, that it is not ready, and the error."""
        if self._engine is not None:
            return self._engine.status()
        return GroupStatus(self._group, False, False, {}, error=self._error)

    async def drain(self, seconds: float) -> bool:
        """Wait until no task is left; see :meth:`Engine.drain`."""
        return self._engine is None or await self._engine.drain(seconds)

    def close(self) -> None:
        """Close the engine."""
        with self._lock:
            self._closed.set()
        if self._engine is not None:
            self._engine.lost.set()  # ends the thread that waits for it
            self._engine.close()
