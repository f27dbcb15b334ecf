"""Measures the engine of a generator service, on a CPU or a GPU.

Run ``python -m benchmarks.serving.engine --device cuda``. Rows as in :mod:`benchmarks.measure`; the
needed packages are torch, diffusers, transformers, safetensors, numpy, pillow, pydantic and pyyaml,
and peft for tiny-patterns. With names of candidates, only their generators are loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

import numpy as np

from benchmarks.measure import Row
from catimage.pool.loading import load_pool
from catimage.pool.spec import Candidate, Pool
from catimage.serving.generator.engine import Engine
from catimage.serving.tasks import CandidateLoad, FinishedImage, ImageTask

PROMPT = "two small red rings and a large blue square on a grey background"


def tasks_of(candidate: str, n: int) -> list[ImageTask]:
    """Return n tasks for one image."""
    return [ImageTask(f"r{i}", candidate, f"{PROMPT} {i}", (i,)) for i in range(n)]


async def image_of(engine: Engine, task: ImageTask) -> np.ndarray:
    """Return the image of a task."""
    async with aclosing(engine.submit(task)) as events:
        async for event in events:
            if isinstance(event, FinishedImage) and event.pixels is not None:
                image = event.pixels
    return image


async def clients(engine: Engine, tasks: Sequence[ImageTask], n: int) -> tuple[np.ndarray, float]:
    """Run tasks with n clients, each of which waits for its image; return images and seconds."""
    images: dict[int, np.ndarray] = {}

    async def client(first: int) -> None:
        for i in range(first, len(tasks), n):
            images[i] = await image_of(engine, tasks[i])

    start = time.perf_counter()
    await asyncio.gather(*(client(i) for i in range(n)))
    return np.stack([images[i] for i in range(len(tasks))]), time.perf_counter() - start


def in_process(engine: Engine, candidate: Candidate, tasks: Sequence[ImageTask], n: int) -> float:
    """Return the seconds of the same images with generate() in batches of n."""
    lane = engine._lane
    assert lane is not None
    generator, start = lane._cache.get(candidate.generator), time.perf_counter()
    for i in range(0, len(tasks), n):
        part = tasks[i : i + n]
        generator.generate([t.prompt for t in part], candidate, [t.seeds[0] for t in part])
    return time.perf_counter() - start


async def cancellation_seconds(engine: Engine, candidate: str, n: int) -> float:
    """Return the seconds from the cancellation of a running batch of n images to its end."""
    task = ImageTask("c", candidate, PROMPT, tuple(range(n)))
    running = asyncio.create_task(image_of(engine, task))
    while not engine.status().running_images:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.2 * n * engine.status().candidates[candidate].batch_seconds)
    start = time.perf_counter()
    running.cancel()
    while engine.status().running_images or engine.status().queued_images:
        await asyncio.sleep(0.001)
    return time.perf_counter() - start


async def rows_of(engine: Engine, candidate: Candidate, n: int, images: int) -> list[Row]:
    """Measure one candidate with n clients."""
    name, tasks = candidate.candidate, tasks_of(candidate.candidate, images)
    load: CandidateLoad = engine.status().candidates[name]
    await clients(engine, tasks[:n], n)  # a warm-up
    alone, single = await clients(engine, tasks, 1)
    batched, seconds = await clients(engine, tasks, n)
    direct = in_process(engine, candidate, tasks, n)
    difference = int(np.abs(alone.astype(int) - batched).max())
    share = float((np.abs(alone.astype(int) - batched).max((1, 2, 3)) > 1).mean())
    stop = await cancellation_seconds(engine, name, n)
    step = seconds * n / images / candidate.steps
    return [
        Row(
            f"{name}: images per second, {n} clients",
            f"{images / seconds:.1f}",
            f"one by one {images / single:.1f}; generate() in batches of {n} {images / direct:.1f}",
            f"{single / seconds:.2f}; {direct / seconds:.2f}",
        ),
        Row(f"{name}: measured batch size", str(load.batch_size), f"{load.seconds:.3f} s alone"),
        Row(f"{name}: cancellation", f"{stop:.3f} s", f"{stop / step:.1f} steps", "", "1 step"),
        Row(
            f"{name}: difference of batched images",
            f"{difference} grey levels",
            f"{share:.1%} of the images differ by more than 1",
            "",
            "1 grey level",
        ),
    ]


async def wait(engine: Engine) -> tuple[float, float]:
    """Return the seconds until the engine is ready, and until its speeds are measured."""
    start = time.perf_counter()
    while not engine.status().ready:
        if engine.status().error:
            raise SystemExit(engine.status().error)
        await asyncio.sleep(0.01)
    ready = time.perf_counter() - start
    while not engine.measured:
        if engine.status().error:
            raise SystemExit(engine.status().error)
        await asyncio.sleep(0.01)
    return ready, time.perf_counter() - start - ready


async def main(pool: Pool, device: str, names: Sequence[str], n: int, images: int) -> None:
    """Print the table."""
    used = [c for c in pool.candidates if not names or c.candidate in names]
    engine = Engine(pool, device, dict.fromkeys(c.generator for c in used))
    engine.start()
    ready, measured = await wait(engine)
    print("| operation | result | alternative | ratio | target |\n|---|---|---|---|---|")
    print(Row(f"ready ({device})", f"{ready:.1f} s", f"measurement {measured:.1f} s"))
    for candidate in used:
        for row in await rows_of(engine, candidate, n, images):
            print(row, flush=True)
    engine.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", default="tiny")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("candidates", nargs="*")
    options = parser.parse_args()
    arguments = (options.device, options.candidates, options.clients, options.images)
    asyncio.run(main(load_pool(options.pool), *arguments))
