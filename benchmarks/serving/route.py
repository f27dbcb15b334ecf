"""Decisions per second of ``/v1/route``: in batches of 32 prompts, and one at a time."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator

from benchmarks.measure import Row
from benchmarks.serving.load import Call, Load, closed_loop
from benchmarks.serving.options import Options
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
    """Return decisions per second of the router in this process, in batches."""
    from pathlib import Path

    from catimage.router import Router
    from catimage.workspace import Workspace

    router, prompts = Router.load(Workspace(Path(str(package_folder))).router), _new_prompts()
    router.route(list(itertools.islice(prompts, TOGETHER)))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += len(router.route(list(itertools.islice(prompts, TOGETHER))))
    return count / (time.perf_counter() - start)


def rows(options: Options) -> list[Row]:
    """Return a row per number of prompts in a request."""
    seconds = 3.0 if options.short else 10.0
    prompts = _new_prompts()
    with packaged(options) as package, package.serve() as target:
        measure(target.server.url, prompts, TOGETHER, 1.0)
        loads = {n: measure(target.server.url, prompts, n, seconds) for n in CLIENTS}
        alternative = _in_process(package.folder, min(seconds, 5.0))
    return [_row(load, n, alternative) for n, load in loads.items()]


def _row(load: Load, together: int, alternative: float) -> Row:
    failed = sum(not outcome.ok for outcome in load.outcomes)
    return Row(
        f"/v1/route, {together} prompts per request, {CLIENTS[together]} clients",
        f"{load.images_per_second:.0f} decisions/s, p50 {1e3 * load.percentile(50):.1f} ms,"
        f" p99 {1e3 * load.percentile(99):.1f} ms, {failed} failed",
        f"{alternative:.0f} (in process, batches of {TOGETHER})",
        f"{load.images_per_second / TARGETS[together]:.2f} of the target",
        f"{TARGETS[together]} decisions/s",
    )
