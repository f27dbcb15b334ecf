"""32 mixed clients for 60 s, and 1,000 connections at once.

Images per second are compared with 16 clients of the same mixture. Refusals (429) must be fast, and
there must be no error 500 and no time-out.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Row
from benchmarks.serving.load import TIMED_OUT, Call, Load, closed_loop, open_loop
from benchmarks.serving.options import Options
from benchmarks.serving.services import captions, packaged, pinned_call, routed_call

BURST = 1000
PINNED = ("tiny-turbo", "tiny-sd-4", "tiny-infinity")


def mixed_calls(seed: int = 0) -> Iterator[Call]:
    """Yield requests of many kinds without end: routed, pinned, several images, long prompts."""
    prompts, rng = captions(400, seed=31 + seed), np.random.default_rng(seed)
    long_prompts = [", ".join(prompts[i : i + 12]) for i in range(0, 240, 12)]
    for i in itertools.count():
        prompt, n = prompts[i % len(prompts)], int(rng.choice([1, 1, 1, 2, 3]))
        match i % 6:
            case 0:
                yield pinned_call(prompt, i, n, PINNED[i // 6 % len(PINNED)])
            case 1:
                yield routed_call(prompt, i, n, quality="low")
            case 2:
                yield routed_call(long_prompts[i % len(long_prompts)], i, 1)
            case 3:
                yield routed_call(prompt, i, 1, quality="high", output_format="jpeg")
            case _:
                yield routed_call(prompt, i, n)


def _burst(url: str) -> Load:
    calls = list(itertools.islice(mixed_calls(seed=2), BURST))
    return asyncio.run(open_loop(url, calls, [0.0] * BURST, timeout=60))


def rows(options: Options) -> list[Row]:
    """Return the rows of both loads."""
    seconds = 8.0 if options.short else 60.0
    with packaged(options) as package, package.serve() as target:
        url = target.server.url
        asyncio.run(closed_loop(url, mixed_calls(seed=1), 4, 3.0))
        before = asyncio.run(closed_loop(url, mixed_calls(), 16, seconds / 2))
        many = asyncio.run(closed_loop(url, mixed_calls(), 32, seconds))
        after = asyncio.run(closed_loop(url, mixed_calls(), 16, seconds / 2))
        burst = _burst(url)
    speed = (before.images_per_second + after.images_per_second) / 2
    loads = {f"32 mixed clients, {seconds:.0f} s": many, f"{BURST:,} requests at once": burst}
    return [_row(name, load, speed) for name, load in loads.items()]


def _row(name: str, load: Load, speed: float) -> Row:
    refused = [o.seconds for o in load.outcomes if o.status in (429, 503)]
    slowest = f"{max(refused):.2f} s the slowest refusal of {len(refused)}" if refused else ""
    late = sum(o.status == TIMED_OUT for o in load.outcomes)
    errors = sum(o.status in (0, 500) for o in load.outcomes)
    return Row(
        name,
        f"{load}; {errors} errors, {late} time-outs; {slowest}",
        f"{speed:.2f} images/s (16 clients, same mixture)",
        f"{load.images_per_second / speed:.2f}x",
        "0.9x; refusals within 1 s; no 500, no time-out",
    )
