"""Requests that are sent while a test does something else."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator

from benchmarks.serving.load import FAILED, Call, Load, closed_loop

from tests.system.running_service import PROMPT, images_call


def endless_calls() -> Iterator[Call]:
    """Yield requests for one image, each with a new prompt."""
    return (images_call(f"{PROMPT} {i}", seed=i) for i in itertools.count())


class Background:
    """A closed loop in another thread; the answers are kept."""

    def __init__(self, url: str, clients: int, seconds: float = 150.0) -> None:
        """Start the load, which ends after ``seconds`` or with :meth:`result`."""
        self._load: Load | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url, clients, seconds))
        self._thread.start()

    def _run(self, url: str, clients: int, seconds: float) -> None:
        calls = itertools.takewhile(lambda _: not self._stopped.is_set(), endless_calls())
        self._load = asyncio.run(closed_loop(url, calls, clients, seconds, keep=True))

    def result(self) -> Load:
        """Send no more requests, wait for the answers, and return the load."""
        self._stopped.set()
        self._thread.join()
        assert self._load is not None
        return self._load


def lost(load: Load) -> list[str]:
    """Return the errors of requests that the service may have accepted.

    A refused connection is not one of them.
    """
    return [
        outcome.error
        for outcome in load.outcomes
        if outcome.status <= FAILED and "ClientConnectorError" not in outcome.error
    ]
