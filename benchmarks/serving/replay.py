"""Replay of a traffic trace whose peak exceeds the capacity of the most expensive candidate.

The arrivals are those of ``../shared/data/traffic`` (``CATIMAGE_SHARED``), thinned so that the peak
is 1.5 times the measured capacity of the most expensive candidate alone. The latency target is
three times its median alone. The service with the router is compared with the same service and that
candidate fixed. A refusal counts as over the target. Quality is CLIPScore of the returned images.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import Row
from benchmarks.serving.load import Call, Load, closed_loop, open_loop
from benchmarks.serving.options import Options
from benchmarks.serving.replay_report import Replay, write_report
from benchmarks.serving.services import Package, captions, packaged, pinned_call, routed_call

TRACE = "data/traffic/arrivals_4to32_per_second.csv"
WINDOW = 10.0
"""Seconds of the windows in which the peak of the trace is measured."""
OVERLOAD, LATENCY = 1.5, 3.0
REFUSED = (429, 503)


@dataclass(frozen=True)
class Alone:
    """Measurements of the most expensive candidate without other traffic.

    Attributes:
        candidate: its name.
        median: median seconds of one image with one client.
        capacity: images per second with 32 clients.
    """

    candidate: str
    median: float
    capacity: float


def arrivals(peak: float, seconds: float | None = None, seed: int = 0) -> np.ndarray:
    """Return arrival times in seconds whose largest rate in a window is about ``peak``.

    Args:
        peak: requests per second at the peak.
        seconds: duration to which the time is compressed; None for that of the trace.
        seed: seed of the thinning.
    """
    shared = Path(os.environ.get("CATIMAGE_SHARED", "../shared"))
    times = pd.read_csv(shared / TRACE)["milliseconds"].to_numpy(float) / 1000
    factor = 1.0 if seconds is None else seconds / times[-1]
    highest = np.histogram(times, np.arange(0, times[-1], WINDOW))[0].max() / WINDOW / factor
    if peak > highest:  # the trace has too few requests: stretch it instead
        factor, share = factor * highest / peak, 1.0
    else:
        share = peak / highest
    kept = np.random.default_rng(seed).random(len(times)) < share
    return times[kept] * factor


def measure_alone(package: Package, seconds: float) -> Alone:
    """Measure the most expensive candidate."""
    from catimage.router import Router
    from catimage.workspace import Workspace

    router = Router.load(Workspace(package.folder).router)
    candidate, prompts = router.candidates[int(np.argmax(router.costs))], captions(400, seed=51)
    settings = {"max_queue_seconds": 1000}
    with package.serve(**settings) as target:
        calls = (pinned_call(prompts[i % 400], i, 1, candidate) for i in itertools.count())
        asyncio.run(closed_loop(target.server.url, calls, 1, count=3))
        one = asyncio.run(closed_loop(target.server.url, calls, 1, seconds, count=30))
        many = asyncio.run(closed_loop(target.server.url, calls, 32, seconds))
    return Alone(candidate, one.percentile(50), many.images_per_second)


def _replay(package: Package, calls: list[Call], times: np.ndarray, target: float) -> Load:
    with package.serve(latency_target=target) as service:
        url = service.server.url
        warm_up = [routed_call(prompt, i) for i, prompt in enumerate(captions(8, seed=52))]
        asyncio.run(closed_loop(url, iter(warm_up), 1))
        return asyncio.run(open_loop(url, calls, times.tolist(), timeout=120, keep=True))


def rows(options: Options) -> list[Row]:
    """Replay the trace with both; write ``replay.csv`` and ``replay.png``; return the rows."""
    seconds = options.seconds or (60.0 if options.short else None)
    with packaged(options) as package:
        alone = measure_alone(package, 8.0 if options.short else 30.0)
        times = arrivals(OVERLOAD * alone.capacity, seconds)
        target = LATENCY * alone.median
        prompts = captions(len(times), seed=53)
        routed = [routed_call(prompt, i) for i, prompt in enumerate(prompts)]
        fixed = [pinned_call(prompt, i, 1, alone.candidate) for i, prompt in enumerate(prompts)]
        replays = {
            name: Replay.of(_replay(package, calls, times, target), target)
            for name, calls in (("router", routed), (alone.candidate, fixed))
        }
    write_report(replays, target, options.out)
    return _rows(replays["router"], replays[alone.candidate], alone, target)


def _rows(ours: Replay, fixed: Replay, alone: Alone, target: float) -> list[Row]:
    ratio = len(fixed.late) and fixed.late.sum() / max(1, ours.late.sum())
    quality = ours.quality_mean / fixed.quality_mean - 1
    both = ~np.isnan(ours.quality) & ~np.isnan(fixed.quality)
    paired = ours.quality[both].mean() / fixed.quality[both].mean() - 1
    title = f"replay, {len(ours.late)} requests, peak {OVERLOAD * alone.capacity:.1f}/s"
    return [
        Row(
            f"{title}: over {target:.2f} s or refused",
            f"{ours.late.sum()} ({ours.late.mean():.1%}); {ours.statuses}",
            f"{fixed.late.sum()} ({fixed.late.mean():.1%}); {fixed.statuses}"
            f" ({alone.candidate} fixed)",
            f"{ratio:.1f}x fewer",
            "10x fewer; no accepted request lost",
        ),
        Row(
            f"{title}: mean CLIPScore of the returned images",
            f"{ours.quality_mean:.4f}",
            f"{fixed.quality_mean:.4f}",
            f"{quality:+.1%} (same prompts: {paired:+.1%})",
            "-2%",
        ),
        Row(
            f"{title}: mean cost, p50 and p99 of the answers",
            f"{ours.cost_mean:.4g}, {ours.percentile(50):.2f} s, {ours.percentile(99):.2f} s",
            f"{fixed.cost_mean:.4g}, {fixed.percentile(50):.2f} s, {fixed.percentile(99):.2f} s",
            f"{ours.cost_mean / fixed.cost_mean:.2f}x",
        ),
    ]
