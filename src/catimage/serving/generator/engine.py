"""The engine of a generator service: its tasks, its devices' threads, and its state."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from typing import Any

from catimage.errors import InputError
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.registry import kind_class, takes_negative_prompt
from catimage.pool.spec import Pool
from catimage.serving.generator.device_lane import DeviceLane
from catimage.serving.generator.failures import (
    GenerationFailure,
    GroupUnavailable,
    QueueFull,
    TaskRefused,
    TaskTimedOut,
)
from catimage.serving.generator.fair_queue import FairQueue, QueuedTask
from catimage.serving.generator.paid_lane import PaidLane
from catimage.serving.generator.speeds import Speeds
from catimage.serving.tasks import FinishedTask, GroupStatus, ImageTask, TaskEvent

MAX_WAITING = 4096
"""Maximum number of images that wait. The router refuses requests long before."""
_LOG = logging.getLogger(__name__)


class Engine:
    """Generates images for tasks, with the generators of one group.

    Generators of this computer share one thread and the memory of one device. Each remote generator
    has as many threads as it may have requests at a time.

    Example::

        engine = Engine(load_pool("tiny"), "cpu")
        engine.start()
        async with aclosing(engine.submit(task)) as events:
            async for event in events: ...
        engine.close()

    Args:
        pool: the pool.
        device: a device name of torch, or ``auto``.
        generators: names of the generators of the group; None for all of the pool.
        group: name of the group, for :meth:`status`.

    Attributes:
        lost: set when a thread has ended for an unexpected reason, such as a lost device; the
            process should be restarted.
    """

    def __init__(
        self,
        pool: Pool,
        device: str = "auto",
        generators: Iterable[str] | None = None,
        group: str = "generators",
    ) -> None:
        names = list(pool.generators if generators is None else generators)
        self._pool, self._device, self._group = pool, device, group
        rows = {c.candidate: c.generator for c in pool.candidates if c.generator in names}
        remote = [name for name in names if kind_class(pool.generators[name].kind).remote]
        self._local = [name for name in names if name not in remote]
        self._generators, self._speeds = rows, Speeds(rows)
        self._paid = {name: PaidLane(pool, name, self._speeds) for name in remote}
        self._lane: DeviceLane | None = None
        self._threads: list[threading.Thread] = []
        self._tasks: set[QueuedTask] = set()
        self._ready, self._draining, self._closed, self._error = False, False, False, ""
        self.lost = threading.Event()

    def start(self) -> None:
        """Load the generators in the background. The result is in :meth:`status`."""
        self._thread(self._main)

    def _main(self) -> None:
        """Load everything, then run the batches of the device in this thread."""
        for lane in self._paid.values():
            generator = lane.load()
            for _ in range(lane.concurrency):
                self._thread(lane.run, generator)
        if self._local:
            cache = GeneratorCache(self._pool, self._device, self._local)
            self._lane = DeviceLane(cache, self._speeds)
            self._lane.run(on_ready=self._set_ready)
        else:
            self._set_ready()

    def _set_ready(self) -> None:
        self._ready = not self._error

    def _guarded(self, target: Callable[..., None], *args: Any) -> None:
        """Run the function of a thread; if it raises an exception, the engine fails."""
        try:
            target(*args)
        except BaseException as error:  # also panics of Rust code; reported by status()
            expected = isinstance(error, InputError)
            self._error, self._ready = str(error)[:300] or type(error).__name__, False
            _LOG.error("group %s: %s", self._group, self._error, exc_info=not expected)
            if not expected:
                self.lost.set()
            self._fail_all()

    def _thread(self, target: Callable[..., None], *args: Any) -> None:
        args = (target, *args)
        thread = threading.Thread(target=self._guarded, args=args, daemon=True, name=self._group)
        self._threads.append(thread)
        thread.start()

    async def submit(self, task: ImageTask) -> AsyncGenerator[TaskEvent, None]:
        """Run a task. The last event is a FinishedTask.

        The task is accepted when the first event is requested. Closing the generator, or cancelling
        the asyncio task that iterates, cancels it: waiting images are removed at once, and a batch
        of which no image is wanted stops after its current denoising step.

        Raises:
            GenerationFailure: the task fails; see :mod:`catimage.serving.generator.failures`.
        """
        loop, events = asyncio.get_running_loop(), asyncio.Queue[object]()

        def report(event: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits for the event
                loop.call_soon_threadsafe(events.put_nowait, event)

        queued, deadline = QueuedTask(task, report), loop.time() + task.timeout
        queue = self._accept(queued)
        try:
            while True:
                async with asyncio.timeout_at(deadline):
                    event: Any = await events.get()
                if isinstance(event, GenerationFailure):
                    raise event
                yield event
                if isinstance(event, FinishedTask):
                    return
        except TimeoutError as error:
            raise self._timed_out(queued) from error
        finally:
            queue.cancel(queued)
            self._tasks.discard(queued)

    def _accept(self, queued: QueuedTask) -> FairQueue:
        """Put a task into the queue of its generator, and return the queue."""
        task = queued.task
        if not self._ready or self._closed:
            reason = self._error or ("it is stopping" if self._closed else "it is starting")
            raise GroupUnavailable(f"group {self._group!r}: {reason.rstrip('.')}. Try again later.")
        if task.candidate not in self._generators:
            raise TaskRefused(f"candidate {task.candidate!r}: not in the group {self._group!r}.")
        if not task.seeds:
            raise TaskRefused("seeds: empty. Give one seed per image.")
        if task.negative_prompt and not takes_negative_prompt(self._pool, task.candidate):
            raise TaskRefused(
                f"negative_prompt: {task.candidate!r} takes none. Use another candidate."
            )
        queue = self._queue(task.candidate)
        if sum(n for _, n in queue.waiting()) + len(task.seeds) > MAX_WAITING:
            raise QueueFull(f"group {self._group!r}: the queue is full. Try again later.")
        self._tasks.add(queued)
        queue.put(queued)
        if self._error or self._closed:  # meanwhile, and it may not have seen this task
            self._fail(queued)
        return queue

    def _queue(self, candidate: str) -> FairQueue:
        lane = self._paid.get(self._generators[candidate]) or self._lane
        if lane is None:
            raise GroupUnavailable(f"group {self._group!r}: it is starting. Try again later.")
        return lane.queue

    def _queues(self) -> list[FairQueue]:
        queues = [lane.queue for lane in self._paid.values()]
        return [*queues, self._lane.queue] if self._lane else queues

    def _timed_out(self, queued: QueuedTask) -> TaskTimedOut:
        task = queued.task
        return TaskTimedOut(
            f"candidate {task.candidate!r}: no result in {task.timeout:g} s. Try again later.",
            billed=queued.sent > 0,
        )

    def status(self) -> GroupStatus:
        """Return the state of the engine. Fast; may be called by any thread."""
        lanes = [self._lane] if self._lane else []
        return GroupStatus(
            group=self._group,
            ready=self._ready and not self._closed,
            draining=self._draining,
            candidates=self._speeds.loads(),
            queued_images=sum(n for queue in self._queues() for _, n in queue.waiting()),
            running_images=sum(lane.running_images for lane in lanes),
            queue_seconds=sum(lane.queue_seconds for lane in lanes),
            error=self._error,
            paid=frozenset(c for c, name in self._generators.items() if name in self._paid),
            measured=self.measured,
        )

    @property
    def measured(self) -> bool:
        """Whether the speeds of all local candidates have been measured."""
        return self._ready and (self._lane is None or self._lane.measured.is_set())

    async def drain(self, seconds: float) -> bool:
        """Wait until no task is left. New tasks are still accepted: the router stops sending them.

        Args:
            seconds: longest time to wait.

        Returns:
            Whether no task is left.
        """
        self._draining, deadline = True, time.monotonic() + seconds
        while self._tasks and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return not self._tasks

    def close(self, seconds: float = 10.0) -> None:
        """Fail the remaining tasks, and end the threads.

        Args:
            seconds: longest time to wait for the threads.
        """
        self._closed = True
        self._fail_all()
        for queue in self._queues():
            queue.close()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _fail_all(self) -> None:
        """Report to all tasks that the service ends."""
        for queued in list(self._tasks):
            self._fail(queued)

    def _fail(self, queued: QueuedTask) -> None:
        message = f"group {self._group!r}: the service ends. Try again later."
        failure = TaskTimedOut(message, billed=True) if queued.sent else GroupUnavailable(message)
        queued.report(failure)
        self._queue(queued.task.candidate).cancel(queued)
