from __future__ import annotations

import asyncio
from pathlib import Path

from catimage.serving.dispatch.gauges import set_gauges
from catimage.serving.tasks import CandidateLoad
from catimage.serving.telemetry.facade import Telemetry
from tests.serving.cores import CANDIDATES, answer, request, running_core
from tests.serving.groups import ScriptedGroup


def test_the_gauges_show_queues_breakers_and_budgets(calibrated_folder: Path) -> None:
    telemetry = Telemetry()

    async def run() -> None:
        group = ScriptedGroup("gauged", *CANDIDATES)
        group.loads["mini-4"] = CandidateLoad(seconds=0.1, batch_seconds=0.05, batch_size=8)
        group.queue_seconds = 30.0
        async with running_core(calibrated_folder, group, max_queue_seconds=100) as core:
            await answer(core, request(seed=1))
            for _ in range(3):
                core.fleet.breakers.fail(("gauged", "mini-4"))
            assert core._router.live is not None
            set_gauges(telemetry, core.fleet, core._router.live)

    asyncio.run(run())
    text = telemetry.exposition()[0].decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert 20 < float(values['catimage_queue_seconds{group="gauged"}']) <= 31
    assert values['catimage_breaker_state{candidate="mini-4"}'] == "2.0"
    assert values['catimage_breaker_state{candidate="mini-1"}'] == "0.0"
    assert float(values['catimage_budget{scope="service"}']) > 2.3
    assert float(values["catimage_pressure"]) > 0
