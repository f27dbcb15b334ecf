"""The queue of a device: images of different requests are taken in turn, and make up batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from catimage.serving.tasks import ImageTask

BatchKey = tuple[str, str | None]
"""Images of the same candidate and negative prompt can be in one batch."""


@dataclass(eq=False)
class QueuedTask:
    """A task, the images that wait, and what is known about its progress.

    Attributes:
        task: the task.
        report: receives the events of the task, from any thread.
        arrival: time of the arrival (``time.perf_counter``).
        waiting: positions of the images that have not been started.
        remaining: number of images that have not been finished.
        cancelled: whether the client has left.
        encoded: the encoded prompt, after the first image has been started.
        started: time of the start of the first image.
        compute_seconds: time of the batches with images of the task.
        largest_batch: number of images of the largest of them.
        lock: protects the counters of a task whose images are requested by several threads.
        sent: number of paid requests that may have been sent.
    """

    task: ImageTask
    report: Callable[[object], None]
    arrival: float = field(default_factory=time.perf_counter)
    waiting: deque[int] = field(default_factory=deque)
    remaining: int = 0
    cancelled: bool = False
    encoded: object = None
    started: float | None = None
    compute_seconds: float = 0.0
    largest_batch: int = 0
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.waiting.extend(range(len(self.task.seeds)))
        self.remaining = len(self.task.seeds)

    @property
    def key(self) -> BatchKey:
        """The key of the batches that may contain images of this task."""
        return self.task.candidate, self.task.negative_prompt


@dataclass(frozen=True)
class QueuedImage:
    """One image of a task.

    Attributes:
        owner: the task.
        index: position of the image in the task.
    """

    owner: QueuedTask
    index: int

    @property
    def prompt(self) -> str:
        """The prompt."""
        return self.owner.task.prompt

    @property
    def seed(self) -> int:
        """The seed."""
        return self.owner.task.seeds[self.index]


class FairQueue:
    """Tasks in the order of their turns. All methods may be called from any thread.

    A batch starts with the task whose turn it is: the one that has waited longest. Tasks with the
    same key join, one image per task in turn, up to the largest batch. A task with more images
    then waits for its next turn behind all others, so that a request for one image waits for at
    most one batch of each request before it. A request that arrives alone never waits for others.
    """

    def __init__(self) -> None:
        self._tasks: deque[QueuedTask] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, task: QueuedTask) -> None:
        """Add a task at the end."""
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()

    def cancel(self, task: QueuedTask) -> None:
        """Mark a task as cancelled, and remove its images."""
        with self._changed:
            task.cancelled = True
            task.waiting.clear()
            if task in self._tasks:
                self._tasks.remove(task)

    def take(self, limit: Callable[[str], int], timeout: float | None) -> list[QueuedImage] | None:
        """Remove and return the images of the next batch.

        Args:
            limit: returns the largest batch of a candidate.
            timeout: seconds to wait for a task; None waits until the queue is closed.

        Returns:
            At least one image, all with the same key; an empty list if no task arrives in time;
            None if the queue is closed and empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._closed, timeout)
            if not self._tasks:
                return None if self._closed else []
            return self._take(max(1, limit(self._tasks[0].task.candidate)))

    def gather(self, tasks: int, seconds: float) -> None:
        """Wait until some tasks are in the queue, at most for some seconds.

        Clients that wait for their images send the next requests together, after a batch. Without
        this wait, the first of these requests would be a batch of its own.

        Args:
            tasks: number of tasks.
            seconds: the longest wait.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._tasks) >= tasks or self._closed, seconds)

    def _take(self, size: int) -> list[QueuedImage]:
        """Remove and return at most ``size`` images of the tasks with the first task's key."""
        key = self._tasks[0].key
        turns = deque(task for task in self._tasks if task.key == key)
        images: list[QueuedImage] = []
        while turns and len(images) < size:
            task = turns.popleft()
            images.append(QueuedImage(task, task.waiting.popleft()))
            if task.waiting:
                turns.append(task)
        taken = dict.fromkeys(image.owner for image in images)
        for task in taken:
            self._tasks.remove(task)
        self._tasks.extend(task for task in taken if task.waiting)
        return images

    def waiting(self) -> list[tuple[str, int]]:
        """Return the candidate and the number of waiting images of each task."""
        with self._changed:
            return [(task.task.candidate, len(task.waiting)) for task in self._tasks]

    def close(self) -> None:
        """Let :meth:`take` return None when the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
