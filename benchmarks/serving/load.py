"""A load generator for services on 127.0.0.1: closed and open loops, bounded in count and time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np

MAX_REQUESTS, MAX_SECONDS = 100_000, 3600.0
"""Bounds of one load."""
FAILED, TIMED_OUT = 0, -1
"""Statuses of requests without an answer."""


@dataclass(frozen=True)
class Call:
    """A request: the path, the JSON body, and the number of images that the answer contains."""

    path: str
    body: dict[str, Any]
    images: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The answer to a request.

    Attributes:
        call: the request.
        due: seconds from the start of the load until the request was due.
        seconds: time from the due time to the end of the answer.
        status: HTTP status, or :data:`FAILED` or :data:`TIMED_OUT`.
        answer: the JSON answer; None without one, or if answers are not kept.
        headers: the headers of the answer.
        error: why there is no answer.
    """

    call: Call
    due: float
    seconds: float
    status: int
    answer: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the request was answered with status 200."""
        return self.status == 200


@dataclass(frozen=True)
class Load:
    """All outcomes of a load, and its duration in seconds."""

    outcomes: list[Outcome]
    seconds: float

    @property
    def statuses(self) -> dict[int, int]:
        """Numbers of outcomes by status."""
        return dict(sorted(Counter(outcome.status for outcome in self.outcomes).items()))

    @property
    def images_per_second(self) -> float:
        """Images of the answered requests, per second of the load."""
        return sum(o.call.images for o in self.outcomes if o.ok) / self.seconds

    def percentile(self, percent: float, status: int = 200) -> float:
        """Return a percentile of the seconds of all outcomes with a status; nan without any."""
        times = [o.seconds for o in self.outcomes if o.status == status]
        return float(np.percentile(times, percent)) if times else float("nan")

    def __str__(self) -> str:
        statuses = ", ".join(f"{n} x {status}" for status, n in self.statuses.items())
        return (
            f"{self.images_per_second:.2f} images/s; p50 {self.percentile(50):.3f} s,"
            f" p99 {self.percentile(99):.3f} s; {statuses}"
        )


class Sender:
    """Sends requests over one session.

    Attributes:
        base_url: the URL of the service, on 127.0.0.1.
        timeout: seconds after which a request has timed out.
        keep: whether the answers are kept.
    """

    def __init__(self, base_url: str, timeout: float = 60.0, keep: bool = False) -> None:
        if urlsplit(base_url).hostname != "127.0.0.1":
            raise ValueError(f"base_url: not on 127.0.0.1 (found {base_url!r}). Use a local URL.")
        self.base_url, self.timeout, self.keep = base_url, timeout, keep

    async def __aenter__(self) -> Sender:
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
        )
        self.start = time.perf_counter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def send(self, call: Call, due: float | None = None) -> Outcome:
        """Send a request and return its outcome; ``due`` is now if it is None."""
        due = time.perf_counter() - self.start if due is None else due
        status, answer, headers, error = FAILED, None, {}, ""
        try:
            async with self.session.post(
                self.base_url + call.path, json=call.body, headers=call.headers
            ) as response:
                content = await response.read()
                status, headers = response.status, dict(response.headers)
                if self.keep or status != 200:
                    is_json = response.content_type == "application/json"
                    answer = await response.json() if is_json else content
        except TimeoutError:
            status, error = TIMED_OUT, f"no answer within {self.timeout:g} s"
        except aiohttp.ClientError as reason:
            error = repr(reason)
        seconds = time.perf_counter() - self.start - due
        return Outcome(call, due, seconds, status, answer, headers, error)


async def closed_loop(
    base_url: str,
    calls: Iterator[Call],
    clients: int,
    seconds: float = MAX_SECONDS,
    count: int = MAX_REQUESTS,
    timeout: float = 60.0,
    keep: bool = False,
) -> Load:
    """Let each client send its next request when the previous one is answered.

    Args:
        base_url: the URL of the service.
        calls: the requests, which the clients share.
        clients: number of clients.
        seconds: time after which no new request is sent.
        count: largest number of requests.
        timeout: seconds after which a request has timed out.
        keep: whether the answers are kept.
    """
    outcomes: list[Outcome] = []
    left = iter(range(min(count, MAX_REQUESTS)))
    async with Sender(base_url, timeout, keep) as sender:

        async def client() -> None:
            end = sender.start + min(seconds, MAX_SECONDS)
            while time.perf_counter() < end and next(left, None) is not None:
                call = next(calls, None)
                if call is None:
                    return
                outcomes.append(await sender.send(call))

        await asyncio.gather(*(client() for _ in range(clients)))
        return Load(outcomes, time.perf_counter() - sender.start)


async def open_loop(
    base_url: str,
    calls: Sequence[Call],
    arrivals: Sequence[float],
    timeout: float = 60.0,
    keep: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Load:
    """Send request i at ``arrivals[i]`` seconds, whether or not earlier ones are answered.

    The time of a request counts from its arrival time, also if the load generator is late.
    """
    if len(calls) > MAX_REQUESTS or max(arrivals, default=0.0) > MAX_SECONDS:
        raise ValueError(
            f"arrivals: more than {MAX_REQUESTS} requests or {MAX_SECONDS:g} s. Shorten the load."
        )
    async with Sender(base_url, timeout, keep) as sender:
        tasks = []
        for call, due in zip(calls, arrivals, strict=True):
            await asyncio.sleep(max(0.0, due - (time.perf_counter() - sender.start)))
            tasks.append(asyncio.create_task(sender.send(call, due)))
            if progress is not None:
                progress(due)
        outcomes = list(await asyncio.gather(*tasks))
        return Load(outcomes, time.perf_counter() - sender.start)
