"""Circuit breakers: candidates that fail repeatedly receive no requests for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass
class _State:
    """State of one breaker.

    Attributes:
        failures: number of consecutive failures.
        retry_at: time of the next trial; None while the breaker is closed.
        trial: whether a trial request is running.
    """

    failures: int = 0
    retry_at: float | None = None
    trial: bool = False


class CircuitBreakers:
    """One circuit breaker per name.

    A breaker opens after ``threshold`` consecutive failures. After ``pause`` seconds, one request
    is a trial (the breaker is half-open): its success closes the breaker; its failure doubles the
    pause, up to ``longest``.

    Args:
        threshold: number of consecutive failures that open a breaker.
        pause: seconds until the first trial.
        longest: longest pause in seconds.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        threshold: int = 3,
        pause: float = 10.0,
        longest: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold, self._pause, self._longest, self._clock = threshold, pause, longest, clock
        self._states: dict[Hashable, _State] = {}

    def available(self, name: Hashable) -> bool:
        """Return whether a request may be sent now; changes nothing."""
        if not self._states:
            return True
        state = self._states.get(name)
        if state is None or state.retry_at is None:
            return True
        return not state.trial and self._clock() >= state.retry_at

    def state(self, name: Hashable) -> str:
        """Return ``closed``, ``half_open`` (a trial is due or running) or ``open``."""
        state = self._states.get(name)
        if state is None or state.retry_at is None:
            return "closed"
        return "half_open" if state.trial or self._clock() >= state.retry_at else "open"

    def begin(self, name: Hashable) -> bool:
        """Return whether a request may be sent now, and count it as the trial if one is due.

        The caller must report its end: :meth:`succeed`, :meth:`fail` or :meth:`abandon`.
        """
        if not self.available(name):
            return False
        state = self._states.get(name)
        if state is not None and state.retry_at is not None:
            state.trial = True
        return True

    def succeed(self, name: Hashable) -> None:
        """Close the breaker."""
        self._states.pop(name, None)

    def fail(self, name: Hashable) -> None:
        """Count a failure; open the breaker if there are enough, or if it was the trial."""
        state = self._states.setdefault(name, _State())
        state.failures += 1
        state.trial = False
        if state.failures >= self._threshold:
            doublings = min(state.failures - self._threshold, 32)
            pause = min(self._pause * 2**doublings, self._longest)
            state.retry_at = self._clock() + pause

    def abandon(self, name: Hashable) -> None:
        """End a request that neither succeeded nor failed, such as a cancelled one."""
        if state := self._states.get(name):
            state.trial = False
