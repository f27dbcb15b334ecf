"""The printed timeline, and waiting with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

POLL_SECONDS = 0.5
Value = TypeVar("Value")


class StepError(Exception):
    """A step has failed, or did not happen within its time limit."""


class Timeline:
    """Prints one line per step: the time since the start, the part, and the evidence."""

    def __init__(self, check: Callable[[], None]) -> None:
        """Start the clock.

        Args:
            check: raises :class:`StepError` if a server has ended; called while waiting.
        """
        self._start, self._check = time.monotonic(), check

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def add(self, part: str, text: str) -> None:
        """Print a line."""
        minutes, seconds = divmod(int(self.seconds), 60)
        print(f"{minutes:3d}:{seconds:02d}  {part:<10}{text}", flush=True)

    def wait(self, what: str, seconds: float, condition: Callable[[], Value | None]) -> Value:
        """Wait until a condition returns a value other than None, and return the value.

        Args:
            what: the step, for the message.
            seconds: the time limit.
            condition: called twice a second; may raise :class:`StepError`. A request that fails,
                for example because a server is busy, is repeated.

        Raises:
            StepError: the time is over, or a server has ended.
        """
        end = time.monotonic() + seconds
        while (value := _result(condition)) is None:
            self._check()
            if time.monotonic() > end:
                raise StepError(f"{what}: not within {seconds:g} seconds")
            time.sleep(POLL_SECONDS)
        return value


def _result(condition: Callable[[], Value | None]) -> Value | None:
    """Return the value of a condition; None if a request fails."""
    try:
        return condition()
    except httpx.HTTPError:
        return None
