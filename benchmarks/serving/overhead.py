"""What HTTP adds to the in-process decision and the direct call of the generator.

Runs alternate: the same new prompts, first in this process, then over HTTP. Both use the same
lambda, so that the decisions are equal, which is checked.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Row
from benchmarks.serving.load import Outcome, Sender, closed_loop
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


async def _ask(url: str, prompts: list[str], lam: float) -> list[Outcome]:
    """Send one request at a time."""
    async with Sender(url, keep=True) as sender:
        return [
            await sender.send(routed_call(prompt, i, **{"lambda": lam}))
            for i, prompt in enumerate(prompts)
        ]


def _run(direct: Direct, url: str, prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the milliseconds of the prompts in this process and over HTTP, (n_prompts,) each."""
    inside = [direct.answer(prompt, i) for i, prompt in enumerate(prompts)]
    outcomes = asyncio.run(_ask(url, prompts, direct.router.lam))
    for (candidate, _), outcome in zip(inside, outcomes, strict=True):
        assert outcome.ok, (outcome.status, outcome.answer)
        assert outcome.answer["catimage"]["candidate"] == candidate
    seconds = [[s for _, s in inside], [outcome.seconds for outcome in outcomes]]
    here, over_http = 1e3 * np.array(seconds)
    return here, over_http


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
        runs = [_run(direct, url, prompts[k * count : (k + 1) * count]) for k in range(1, RUNS + 1)]
    return [_row(runs, percent, target_ms) for percent, target_ms in ((50, 5), (99, 15))]


def _row(runs: list[tuple[np.ndarray, np.ndarray]], percent: int, target_ms: int) -> Row:
    figures = np.array([[np.percentile(times, percent) for times in run] for run in runs])
    here, over_http = np.median(figures, axis=0)
    added = float(np.median(figures[:, 1] - figures[:, 0]))
    spread = ", ".join(f"{b - a:.1f}" for a, b in figures)
    return Row(
        f"one image over HTTP, p{percent}, median of {len(runs)} alternating runs",
        f"{over_http:.1f} ms",
        f"{here:.1f} ms (decision and generator in process)",
        f"+{added:.1f} ms (runs: {spread})",
        f"+{target_ms} ms",
    )
