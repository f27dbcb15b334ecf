"""The router's view of one generator group: its last status, and the work sent to it since."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable

from catimage.serving.generator.client import Group
from catimage.serving.tasks import CandidateLoad, GroupStatus

EARLIER_SECONDS = 5.0
"""Seconds for which the device time of a sent task is kept, longer than one poll takes."""


class Member:
    """One generator group, as the router sees it.

    The device is modelled as a queue: :attr:`free_at` is the time at which it has finished its
    work. A poll sets it, and every task that is sent moves it, so that the estimated wait is right
    between polls too. Tasks that end earlier than estimated shorten the wait at once: it is never
    longer than the device time of the tasks that have not ended. A task shares batches with other
    tasks of the same candidate, and adds little; the first task of a candidate adds a batch.

    Attributes:
        group: the client of the group.
        status: the last status; None before the first one.
        problem: why the group takes no tasks; empty if it does.
        free_at: estimated time at which the device has finished all work that was sent to it.
        running: number of tasks of this router in the group.
        last_event: time of the last event of any task of this router, or of its start.
        failed: set when a task finds the group down, so that it is polled at once.
    """

    def __init__(self, group: Group, clock: Callable[[], float] = time.monotonic) -> None:
        self.group = group
        self.status: GroupStatus | None = None
        self.problem = "starting"
        self.free_at = self.last_event = clock()
        self.running = 0
        self.failed = asyncio.Event()
        self._clock = clock
        self._sent: deque[tuple[float, float]] = deque()
        self._images = Counter[str]()
        """Images of the tasks of this router that have not ended, by candidate."""
        self._own = 0.0
        """Estimated device time of the tasks of this router that have not ended, in seconds."""
        self._others_until = self.free_at
        """Estimated time at which the device has finished the work of other routers."""
        self._missed = 0

    @property
    def name(self) -> str:
        """The name of the group."""
        return self.group.name

    @property
    def ready(self) -> bool:
        """Whether the group takes tasks."""
        return not self.problem

    @property
    def draining(self) -> bool:
        """Whether the group is shutting down: it takes tasks of accepted requests only."""
        return self.status is not None and self.status.draining

    @property
    def wait(self) -> float:
        """Estimated seconds until a task that is sent now starts."""
        now = self._clock()
        longest = self._own + max(0.0, self._others_until - now)
        return max(0.0, min(self.free_at - now, longest))

    def now(self) -> float:
        """Return the time on the clock of the group's times."""
        return self._clock()

    def makes(self, candidate: str) -> bool:
        """Return whether the group takes tasks of a candidate."""
        return not self.problem and self.status is not None and candidate in self.status.candidates

    def wait_of(self, candidate: str) -> float:
        """Return the estimated wait of a candidate; 0 if another computer makes its images."""
        load = self.load(candidate)
        return self.wait if load and load.batch_seconds else 0.0

    @property
    def fastest(self) -> float | None:
        """Shortest device time per image of its candidates; None if it has none on a device."""
        loads = self.status.candidates.values() if self.status else ()
        return min((x.batch_seconds for x in loads if x.batch_seconds), default=None)

    def is_paid(self, candidate: str) -> bool:
        """Return whether a provider charges for the images of a candidate."""
        return self.status is not None and candidate in self.status.paid

    def load(self, candidate: str) -> CandidateLoad | None:
        """Return the speed of a candidate; None if the group does not have it."""
        return self.status.candidates.get(candidate) if self.status else None

    def send(self, candidate: str, images: int) -> float:
        """Count a task that is sent now; return its estimated device time, for :meth:`end`."""
        now, load, wait = self._clock(), self.load(candidate), self.wait
        others = self._images[candidate] if wait else 0
        self._images[candidate] += images
        seconds = 0.0
        if load is not None:
            seconds = load.device_seconds(others + images) - load.device_seconds(others)
        self.free_at, self._own = now + wait + seconds, self._own + seconds
        self._sent.append((now, seconds))
        while now - self._sent[0][0] > EARLIER_SECONDS:
            self._sent.popleft()
        if not self.running:
            self.last_event = now
        self.running += 1
        return seconds

    def end(self, candidate: str, images: int, seconds: float) -> None:
        """Count the end of a task with this estimated device time."""
        self.running -= 1
        self._images[candidate] -= images
        self._own = self._own - seconds if self.running else 0.0

    def event(self) -> None:
        """Record that the group makes progress."""
        self.last_event = self._clock()

    def update(self, status: GroupStatus, requested: float) -> None:
        """Take over a status.

        Args:
            status: the status.
            requested: time at which it was requested; tasks that were sent later are added to it.
        """
        self.status, self._missed = status, 0
        later = sum(seconds for sent, seconds in self._sent if sent >= requested)
        others = max(0.0, status.queue_seconds - (self._own - later))
        self._others_until = requested + others
        self.free_at = requested + status.queue_seconds + later
        self.problem = status.error or ("" if status.ready else "starting")

    def miss(self, reason: str, tolerated: int = 2) -> None:
        """Record that a status did not arrive; the group is down after more than ``tolerated``."""
        self._missed += 1
        if self._missed > tolerated or not self.ready:
            self._down(reason)

    def fail(self, reason: str) -> None:
        """Record that the group is down, until the next status arrives."""
        self._down(reason)
        self.failed.set()

    def _down(self, reason: str) -> None:
        self.problem = reason or "unavailable"
        self.free_at = self._clock()
        self._sent.clear()
