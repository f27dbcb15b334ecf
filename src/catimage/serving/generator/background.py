"""An engine that is created in the background, so that its service answers at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from catimage.errors import InputError
from catimage.serving.generator.engine import Engine
from catimage.serving.generator.failures import GroupUnavailable
from catimage.serving.tasks import GroupStatus, ImageTask, TaskEvent

_LOG = logging.getLogger(__name__)


class BackgroundEngine:
    """Creates and starts an engine in a thread. Meanwhile, tasks are refused.

    An error does not end the process, which would be restarted again and again: it is in the state.

    Args:
        create: creates the engine; it may read files and raise exceptions.
        group: name of the group.
    """

    def __init__(self, create: Callable[[], Engine], group: str) -> None:
        self._create, self._group = create, group
        self._engine: Engine | None = None
        self._error, self._closed = "", False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Create and start the engine in the background."""
        threading.Thread(target=self._start, daemon=True, name=self._group).start()

    def _start(self) -> None:
        try:
            engine = self._create()
        except Exception as error:  # reported by status(), so that the operator sees the reason
            self._error = str(error) or type(error).__name__
            expected = isinstance(error, InputError)
            _LOG.error("group %s: %s", self._group, self._error, exc_info=not expected)
            return
        with self._lock:
            if not self._closed:
                engine.start()
                self._engine = engine

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
            self._closed = True
        if self._engine is not None:
            self._engine.close()
