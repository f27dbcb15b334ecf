"""What HTTP adds to the in-process decision and the direct call of the generator.

Each new prompt is answered in this process and over HTTP, in alternating order. Both use the same
lambda, so that the decisions are equal, which is checked.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Row
from benchmarks.serving.load import Sender, closed_loop
from benchmarks.serving.options import Options
from benchmarks.serving.services import captions, packaged, routed_call

RUNS = 5


class Direct:
    """The router and the generators in this process."""

    def __init__(self, workspace: Path) -> None:
        from catimage.params import load_params
        from catimage.pool.generator_cache import GeneratorCache
        from catimage.pool.loading import load_pool
        from catimage.router import Router
        from catimage.workspace import Workspace

        paths = Workspace(workspace)
        params = load_params(paths.params)
        pool = load_pool(params.pool, paths.pools)
        self.router = Router.load(paths.router)
        self.specs = {c.candidate: c for c in pool.candidates}
        self.generators = GeneratorCache(pool, params.generate.device)

    def answer(self, prompt: str, seed: int) -> tuple[str, float]:
        """Decide and generate one image; return the candidate and the seconds."""
        start = time.perf_counter()
        decision = self.router.route([prompt], lam=self.router.lam, seed=seed)[0]
        spec = self.specs[decision.candidate]
        self.generators.get(spec.generator).generate([prompt], spec, [seed])
        return decision.candidate, time.perf_counter() - start


async def _run(direct: Direct, url: str, prompts: list[str]) -> np.ndarray:
    """Return the milliseconds of each prompt in this process, over HTTP, and outside of the models.

    Each prompt is answered both ways, alternately first here and first over HTTP, so that a slow
    moment of the machine affects both. The last figure is the time of the request over HTTP without
    the decision and the batch of the generator, which the service reports: (n_prompts, 3).
    """
    times = []
    async with Sender(url, keep=True) as sender:
        for i, prompt in enumerate(prompts):
            here = direct.answer(prompt, i) if i % 2 else None
            call = routed_call(prompt, i, **{"lambda": direct.router.lam})
            outcome = await sender.send(call)
            candidate, seconds = here or direct.answer(prompt, i)
            assert outcome.ok, (outcome.status, outcome.answer)
            answer = outcome.answer["catimage"]
            assert answer["candidate"] == candidate
            models = answer["seconds"]["route"] + answer["seconds"]["generate"]
            times.append((seconds, outcome.seconds, outcome.seconds - models))
    return 1e3 * np.array(times)


def rows(options: Options) -> list[Row]:
    """Return the rows of the median and of the 99th percentile."""
    count = 15 if options.short else 60
    prompts = captions((RUNS + 1) * count, seed=11)
    with packaged(options) as package, package.serve() as target:
        direct = Direct(package.folder)
        for name in direct.specs:  # loads the generators
            direct.generators.get(direct.specs[name].generator)
        url = target.server.url
        warm_up = [routed_call(prompt, 0) for prompt in prompts[:count]]
        asyncio.run(closed_loop(url, iter(warm_up), 1))
        for i, prompt in enumerate(prompts[:20]):
            direct.answer(prompt, i)
        runs = [
            asyncio.run(_run(direct, url, prompts[k * count : (k + 1) * count]))
            for k in range(1, RUNS + 1)
        ]
    return [_row(runs, percent, target_ms) for percent, target_ms in ((50, 5), (99, 15))]


def _row(runs: list[np.ndarray], percent: int, target_ms: int) -> Row:
    figures = np.array([np.percentile(times, percent, axis=0) for times in runs])
    here, over_http, outside = np.median(figures, axis=0)
    added = float(np.median(figures[:, 1] - figures[:, 0]))
    spread = ", ".join(f"{b - a:.1f}" for a, b, _ in figures)
    return Row(
        f"one image over HTTP, p{percent}, median of {len(runs)} alternating runs",
        f"{over_http:.1f} ms ({outside:.1f} ms without decision and batch)",
        f"{here:.1f} ms (decision and generator in process)",
        f"+{added:.1f} ms (runs: {spread})",
        f"+{target_ms} ms",
    )
