"""Decisions per second of ``/v1/route``: in batches of 32 prompts, and one at a time, with the
processor time of the load generator and of the service.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
from threadpoolctl import threadpool_limits

from benchmarks.measure import Row
from benchmarks.serving.load import Call, Load, closed_loop
from benchmarks.serving.options import Options
from benchmarks.serving.processes import ServerProcess
from benchmarks.serving.services import ROUTE, captions, packaged

TOGETHER = 32
CLIENTS = {TOGETHER: 4, 1: 8}
"""Numbers of clients by number of prompts per request."""
TARGETS = {TOGETHER: 1000, 1: 200}


def _calls(prompts: Iterator[str], together: int) -> Iterator[Call]:
    while True:
        texts = list(itertools.islice(prompts, together))
        if len(texts) < together:
            return
        yield Call(ROUTE, {"prompt": texts[0] if together == 1 else texts}, together)


def measure(url: str, prompts: Iterator[str], together: int, seconds: float) -> Load:
    """Return the load of a closed loop of requests with new prompts."""
    calls = _calls(prompts, together)
    return asyncio.run(closed_loop(url, calls, CLIENTS[together], seconds))


def _new_prompts() -> Iterator[str]:
    """Yield prompts without end, each only once: a number follows a caption."""
    base = captions(2000, seed=21)
    for i in itertools.count():
        yield f"{base[i % len(base)]}, number {i}"


def _in_process(package_folder: object, seconds: float) -> float:
    """Return decisions per second of the router in this process, in batches, with the text encoder
    and the number of threads of the service.
    """
    from pathlib import Path

    from catimage.router import Router
    from catimage.serving.decisions.versions import RouterVersion
    from catimage.workspace import Workspace

    loaded = Router.load(Workspace(Path(str(package_folder))).router)
    router, prompts = RouterVersion("1", loaded).router, _new_prompts()
    router.route(list(itertools.islice(prompts, TOGETHER)))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += len(router.route(list(itertools.islice(prompts, TOGETHER))))
    return count / (time.perf_counter() - start)


def _measured(url: str, limit: float = 60.0) -> None:
    """Wait until the generators have measured the speeds of their candidates, which takes the time
    of both cores.

    Raises:
        RuntimeError: they are not measured within ``limit`` seconds.
    """
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        models = httpx.get(f"{url}/v1/models", trust_env=False).json()["data"]
        if all(model["seconds"] for model in models if "seconds" in model):
            return
        time.sleep(0.5)
    raise RuntimeError(f"{url}: the speeds were not measured within {limit:.0f} s")


@dataclass(frozen=True)
class Measurement:
    """A load, and the processor seconds of the load generator and of the processes of the service
    during it.
    """

    load: Load
    client: float
    service: float


def _measurement(server: ServerProcess, prompts: Iterator[str], n: int, s: float) -> Measurement:
    client, service = time.process_time(), server.processor_seconds()
    load = measure(server.url, prompts, n, s)
    return Measurement(load, time.process_time() - client, server.processor_seconds() - service)


def rows(options: Options) -> list[Row]:
    """Return a row per number of prompts in a request."""
    seconds = 3.0 if options.short else 10.0
    prompts = _new_prompts()
    with packaged(options) as package:
        with package.serve() as target:
            _measured(target.server.url)
            measure(target.server.url, prompts, TOGETHER, 1.0)
            found = {n: _measurement(target.server, prompts, n, seconds) for n in CLIENTS}
        with threadpool_limits(1):
            alternative = _in_process(package.folder, min(seconds, 5.0))
    return [_row(measurement, n, alternative) for n, measurement in found.items()]


def _row(found: Measurement, together: int, alternative: float) -> Row:
    load = found.load
    failed = sum(not outcome.ok for outcome in load.outcomes)
    decisions = max(load.images_per_second * load.seconds, 1.0)
    return Row(
        f"/v1/route, {together} prompts per request, {CLIENTS[together]} clients",
        f"{load.images_per_second:.0f} decisions/s, p50 {1e3 * load.percentile(50):.1f} ms,"
        f" p99 {1e3 * load.percentile(99):.1f} ms, {failed} failed; processor time per decision:"
        f" service {1e3 * found.service / decisions:.2f} ms, load generator"
        f" {1e3 * found.client / decisions:.2f} ms",
        f"{alternative:.0f} (in process, batches of {TOGETHER})",
        f"{load.images_per_second / TARGETS[together]:.2f} of the target",
        f"{TARGETS[together]} decisions/s",
    )
