"""One thread that processes requests in batches of all that wait, without waiting for more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
MAX_BATCH = 64
"""Number of items after which a batch is closed: a larger batch delays its first requests and is
not faster per item.
"""


@dataclass(frozen=True)
class _Job(Generic[Item, Answer]):
    items: Sequence[Item]
    future: asyncio.Future[list[Answer]]
    loop: asyncio.AbstractEventLoop


class BatchWorker(Generic[Item, Answer]):
    """Calls a function in one thread, with the items of all calls that wait at that moment.

    Args:
        process: a function from items to one answer per item. If it fails for the items of several
            calls, it is called again for each call, so that a call fails only by its own items.
        name: name of the thread.
    """

    def __init__(self, process: Callable[[list[Item]], list[Answer]], name: str) -> None:
        self._process, self._name = process, name
        self._queue: SimpleQueue[_Job[Item, Answer] | None] = SimpleQueue()
        self._lock, self._closed = Lock(), False
        self._thread: Thread | None = None

    async def submit(self, items: Sequence[Item]) -> list[Answer]:
        """Return the answers of the function to ``items``; the first call starts the thread.

        Raises:
            RuntimeError: the worker is closed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Answer]] = loop.create_future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self._name}: the worker is closed")
            if self._thread is None:
                self._thread = Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._queue.put(_Job(items, future, loop))
        return await future

    def close(self) -> None:
        """Finish the calls that wait, and stop the thread."""
        with self._lock:
            self._closed, thread = True, self._thread
            self._queue.put(None)
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (jobs := self._next_batch()) is not None:
            live = [job for job in jobs if not job.future.cancelled()]
            if live:
                self._answer(live)

    def _next_batch(self) -> list[_Job[Item, Answer]] | None:
        """Wait for a call, and return it with all others that wait; None if the worker closes."""
        job = self._queue.get()
        if job is None:
            return None
        jobs, size = [job], len(job.items)
        while size < MAX_BATCH:
            try:
                job = self._queue.get_nowait()
            except Empty:
                break
            if job is None:
                self._queue.put(None)  # close after this batch
                break
            jobs.append(job)
            size += len(job.items)
        return jobs

    def _answer(self, jobs: list[_Job[Item, Answer]]) -> None:
        try:
            answers = self._process([item for job in jobs for item in job.items])
        except BaseException as error:  # also panics of Rust code; passed on to the callers
            if len(jobs) == 1:
                _deliver(jobs[0], error)
            else:
                for job in jobs:
                    self._answer([job])
            return
        start = 0
        for job in jobs:
            _deliver(job, answers[start : start + len(job.items)])
            start += len(job.items)


def _deliver(job: _Job[Item, Answer], result: list[Answer] | BaseException) -> None:
    """Complete the future of a job in its event loop, unless the caller was cancelled."""

    def complete() -> None:
        if job.future.done():
            return
        if isinstance(result, Exception):
            job.future.set_exception(result)
        elif isinstance(result, BaseException):
            job.future.set_exception(RuntimeError(type(result).__name__))
        else:
            job.future.set_result(result)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for the result
        job.loop.call_soon_threadsafe(complete)
