"""Memory of the service with the default groups: PSS summed over all processes, under load."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import ExitStack

from benchmarks.measure import Row
from benchmarks.serving.burst import mixed_calls
from benchmarks.serving.compare import BASELINES
from benchmarks.serving.load import closed_loop
from benchmarks.serving.options import Options
from benchmarks.serving.services import Target, baseline, captions, packaged

GIGABYTE = 1e9


def _used(target: Target, ours: bool, seconds: float) -> tuple[float, float, str]:
    """Return GB before and after a load, and GB of each process."""
    before = sum(target.server.pss().values()) / GIGABYTE
    prompts = captions(200)
    calls = (target.call(prompts[i % 200], i, 1) for i in itertools.count())
    load = mixed_calls() if ours else calls
    asyncio.run(closed_loop(target.server.url, load, 16, seconds))
    sizes = sorted((size / GIGABYTE for size in target.server.pss().values()), reverse=True)
    return before, sum(sizes), " + ".join(f"{size:.2f}" for size in sizes)


def rows(options: Options) -> list[Row]:
    """Return a row per baseline."""
    seconds = 5.0 if options.short else 20.0
    with ExitStack() as stack:
        package = stack.enter_context(packaged(options))
        ours = _used(stack.enter_context(package.serve()), True, seconds)
        stack.pop_all().close()
        table = []
        for name, title in BASELINES.items():
            with baseline(name) as target:
                other = _used(target, False, seconds)
            table.append(
                Row(
                    "memory (PSS of all processes) after 16 clients",
                    f"{ours[1]:.2f} GB ({ours[2]}; idle {ours[0]:.2f})",
                    f"{other[1]:.2f} GB ({title}; idle {other[0]:.2f})",
                    f"{ours[1] / other[1]:.2f}x its memory",
                    "1.5 GB",
                )
            )
    return table
