"""The rate limit of the requests to a hosted generator's server."""

from __future__ import annotations

import threading
import time
from typing import Any


class RateLimiter:
    """Limits the rate of requests from any number of threads, with equal intervals between them.

    Args:
        requests_per_minute: maximum rate.
    """

    def __init__(self, requests_per_minute: float) -> None:
        self._interval = 60 / requests_per_minute
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, _: Any = None) -> None:
        """Wait until the next request may start."""
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + self._interval
        time.sleep(max(0.0, start - time.monotonic()))
