"""Images per second at 16 clients, beside services without router and batching.

The services run one after the other, in alternating rounds, with the same pipeline, steps, image
size, prompts and seeds. The images are compared.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import ExitStack

import numpy as np

from benchmarks.measure import Row
from benchmarks.serving.load import Load, closed_loop
from benchmarks.serving.options import Options
from benchmarks.serving.services import Target, baseline, captions, packaged, pixels

BASELINES = {
    "bentoml_plain": "plain BentoML service",
    "request_scoped": "style of diffusers' server-async",
}
CLIENTS, COMPARED, ROUNDS = 16, 16, 3


def measure(target: Target, seconds: float, clients: int = CLIENTS) -> Load:
    """Return the load of a closed loop of requests for one image of the candidate."""
    prompts = captions(500)
    calls = (target.call(prompts[i % 500], i, 1) for i in itertools.count())
    return asyncio.run(closed_loop(target.server.url, calls, clients, seconds))


def first_images(target: Target) -> list[np.ndarray]:
    """Return the images of fixed prompts and seeds, requested at the same time."""
    prompts = captions(COMPARED, seed=1)
    calls = [target.call(prompt, 100 + i, 1) for i, prompt in enumerate(prompts)]
    url = target.server.url
    load = asyncio.run(closed_loop(url, iter(calls), COMPARED, timeout=300, keep=True))
    if load.statuses != {200: COMPARED}:
        raise RuntimeError(f"{target.name}: {load}\n{target.server.log.read_text()[-2000:]}")
    answers = {id(outcome.call): outcome.answer for outcome in load.outcomes if outcome.ok}
    return [pixels(target.images(answers[id(call)])[0]) for call in calls]


def rows(options: Options) -> list[Row]:
    """Return a row per baseline: images per second of both, and the largest difference."""
    seconds = 5.0 if options.short else 20.0
    with ExitStack() as stack:
        targets = [stack.enter_context(baseline(name)) for name in BASELINES]
        package = stack.enter_context(packaged(options))
        targets.append(stack.enter_context(package.serve(max_queue_seconds=300)))
        images = {target.name: first_images(target) for target in targets}
        loads: dict[str, list[Load]] = {target.name: [] for target in targets}
        for _ in range(1 if options.short else ROUNDS):
            for target in targets:
                loads[target.name].append(measure(target, seconds))
    ours = loads.pop("CATImage")
    speed = float(np.median([load.images_per_second for load in ours]))
    return [
        _row(name, speed, ours, others, images["CATImage"], images[name])
        for name, others in loads.items()
    ]


def _row(
    name: str,
    speed: float,
    ours: list[Load],
    others: list[Load],
    images: list[np.ndarray],
    other_images: list[np.ndarray],
) -> Row:
    """Return the row of one baseline."""
    other = float(np.median([load.images_per_second for load in others]))
    pairs = zip(images, other_images, strict=True)
    difference = max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs)
    failed = sum(not outcome.ok for load in ours for outcome in load.outcomes)
    other_failed = sum(not outcome.ok for load in others for outcome in load.outcomes)
    return Row(
        f"{CLIENTS} clients, tiny-sd-4, largest difference {difference} grey levels",
        f"{speed:.2f} images/s, p50 {ours[-1].percentile(50):.2f} s, {failed} failed",
        f"{other:.2f} ({BASELINES[name]}), p50 {others[-1].percentile(50):.2f} s,"
        f" {other_failed} failed",
        f"{speed / other:.2f}x",
        "2x, 1 grey level",
    )
