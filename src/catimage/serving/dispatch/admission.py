"""Admission: requests that would wait too long are refused before any work is done for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from catimage.serving.dispatch.errors import unavailable
from catimage.serving.dispatch.fleet import Fleet
from catimage.serving.messages import ServingError

LATE_FACTOR = 1.5
"""An accepted request is refused only if its wait becomes longer than this multiple of the limit,
because a late refusal helps nobody: the client has waited, and the work of the decision is done.
"""


class Admission:
    """Compares the estimated wait of requests with a limit.

    A request is checked twice: on its arrival, against the wait of the fastest candidate, so that a
    refusal costs nothing; and after the decision, against the wait of the selected candidate, with
    the tolerance :data:`LATE_FACTOR`.
    Requests between the two checks count as work of the fastest candidate.

    Args:
        fleet: the generator groups.
        limit: the longest estimated wait in seconds.

    Attributes:
        undecided: number of images of accepted requests that have not been sent to a group yet.
    """

    def __init__(self, fleet: Fleet, limit: float) -> None:
        self._fleet, self._limit = fleet, limit
        self.undecided = 0

    def estimate(self, candidates: Collection[str]) -> float | None:
        """Return the wait of a request that arrives now, with the best of some candidates.

        Returns:
            Seconds; None if no group can make any of the candidates.
        """
        ready = max(1, sum(member.ready for member in self._fleet.members.values()))
        waits = []
        for candidate in candidates:
            if member := self._fleet.best(candidate):
                load = member.load(candidate)
                seconds = self.undecided * load.batch_seconds / ready if load else 0.0
                waits.append(member.wait_of(candidate) + seconds)
        return min(waits, default=None)

    def device_wait(self, own: int = 0) -> float:
        """Return the wait of a request that arrives now for the busiest device, in seconds.

        It is 0 if no device is ready. Hosted candidates do not count.

        Args:
            own: number of images of the request itself, if it was accepted already.
        """
        ready = [member for member in self._fleet.members.values() if member.ready]
        waits = [
            member.wait + (self.undecided - own) * fastest / len(ready)
            for member in ready
            if (fastest := member.fastest) is not None
        ]
        return max(waits, default=0.0)

    def check(self, candidates: Collection[str], patient: bool = False) -> float:
        """Check a request on its arrival, and return its estimated wait in seconds.

        Args:
            candidates: the candidates that may answer it.
            patient: whether it is a job, which is never refused because it would wait too long:
                :class:`~catimage.serving.jobs.JobRunner` has selected the time of its start.

        Raises:
            ServingError: it would wait too long (429), or no group can make the candidates (503).
        """
        wait = self.estimate(candidates)
        if wait is None:
            raise unavailable(self._fleet.unavailable(candidates))
        if wait > self._limit and not patient:
            raise self._overloaded(wait)
        return wait

    @contextmanager
    def accepted(self, images: int) -> Iterator[None]:
        """Count the images of a request until it is sent to a group, which ends the block."""
        self.undecided += images
        try:
            yield
        finally:
            self.undecided -= images

    def order(self, ranked: Sequence[str], patient: bool = False) -> tuple[str, ...]:
        """Return candidates in the order in which they are tried: first those with short queues.

        Args:
            ranked: the candidates that may answer, the selected one first.
            patient: whether the request is a job, as for :meth:`check`.

        Raises:
            ServingError: all of them would wait too long (429), or no group can make them (503).
        """
        waits = {name: self._fleet.wait(name) for name in ranked}
        known = [wait for wait in waits.values() if wait is not None]
        if not known:
            raise unavailable(self._fleet.unavailable(ranked))
        if min(known) > LATE_FACTOR * self._limit and not patient:
            raise self._overloaded(min(known))
        late = {name for name, wait in waits.items() if wait is None or wait > self._limit}
        return tuple(sorted(ranked, key=lambda name: name in late))

    def _overloaded(self, wait: float) -> ServingError:
        return ServingError(
            f"service: overloaded (the estimated wait is {wait:.0f} s). Try again later.",
            429,
            "overloaded",
            retry_after=max(1.0, wait - self._limit),
        )
