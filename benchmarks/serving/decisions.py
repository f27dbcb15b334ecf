"""Time of a decision of the default estimators, compared with one pass of the text encoder, and
decisions per second of the decision thread. As in the service, the text encoder is the one without
torch, and numpy uses one thread.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.decision import _router
from benchmarks.measure import Row
from catimage.encoders.cache import prefer_light_encoder
from catimage.encoders.light_clip import LightClipEncoder, light_folder
from catimage.params import EncoderParams, EstimatorParams
from catimage.params.serving import ServingParams
from catimage.scenes.grammar import sample_scene
from catimage.serving.budgets import LiveBudgets
from catimage.serving.decisions.conditions import Conditions
from catimage.serving.decisions.decide import Decisions
from catimage.serving.decisions.fixed import Catalogue
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.messages import RouteRequest
from catimage.serving.state.store import State

ESTIMATORS = ("knn", "ridge", "kernel_ridge")
REPEATS, TOGETHER = 300, 32


@threadpool_limits.wrap(limits=1)
def rows() -> list[Row]:
    """Return one row per estimator and measurement. No prompt is decided twice."""
    prefer_light_encoder(EncoderParams())
    rng = np.random.default_rng(0)
    captions = list(dict.fromkeys(sample_scene(rng).caption() for _ in range(1200)))
    folder = light_folder(EncoderParams())
    assert folder is not None
    encoder = LightClipEncoder(EncoderParams(), folder)
    table, new = [], new_prompts(captions)  # the text encoder's cache is shared
    with tempfile.TemporaryDirectory() as home:
        state = State.open(f"sqlite:///{Path(home) / 'state.db'}")
        for name in ESTIMATORS:
            router = _router(EstimatorParams(name=name), captions, rng)
            version = RouterVersion("1", router)
            table += _rows(name, version, encoder, state, new)
        state.close()
    return table


def new_prompts(captions: list[str]) -> Iterator[str]:
    """Yield prompts without end, each only once."""
    return (f"{captions[i % len(captions)]} {i}" for i in itertools.count())


def _rows(
    name: str, version: RouterVersion, encoder: LightClipEncoder, state: State, new: Iterator[str]
) -> list[Row]:
    router, cached = version.router, version.encoder
    known = ""

    def decide_known() -> None:
        router.route([known])

    encoding, decision, after = [], [], []
    for _ in range(REPEATS):  # alternately, so that all have the same machine
        encoding.append(_milliseconds(lambda: encoder.encode([next(new)])))
        known = next(new)
        decision.append(_milliseconds(decide_known))
        if cached is not None:
            cached.encode([known])
        after.append(_milliseconds(decide_known))
    single, together = asyncio.run(_throughput(version, state, new))
    pass_ms, decision_ms, after_ms = (float(np.median(x)) for x in (encoding, decision, after))
    return [
        Row(
            f"decision, {name}",
            f"{decision_ms:.2f} ms",
            f"{pass_ms:.2f} ms (one pass of the text encoder)",
            f"{decision_ms / pass_ms:.2f}",
            "1.5",
        ),
        Row(f"decision, {name}, after text encoding", f"{after_ms:.2f} ms", target="1 ms"),
        Row(
            f"decisions, {name}, one at a time and {TOGETHER} together",
            f"{single:.0f} and {together:.0f} per second in process",
            target="200 and 1,000 per second over HTTP",
        ),
    ]


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


async def _throughput(
    version: RouterVersion, state: State, new: Iterator[str]
) -> tuple[float, float]:
    """Return decisions per second of one call at a time, and of calls with 32 prompts."""
    costs = dict(zip(version.router.candidates, version.router.costs.tolist(), strict=True))
    budgets = LiveBudgets(state.budgets, ServingParams())
    budgets.use(Versions(version))
    service = Decisions(Catalogue(costs), budgets, versions=Versions(version))
    rates = []
    for size, calls in ((1, REPEATS), (TOGETHER, 30)):
        start = time.perf_counter()
        for i in range(calls):
            await service.decide(
                [RouteRequest(next(new), f"{i}-{k}", k) for k in range(size)], Conditions()
            )
        rates.append(size * calls / (time.perf_counter() - start))
    service.close()
    return rates[0], rates[1]
