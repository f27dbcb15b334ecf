from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from catimage.serving.core import Core
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.dispatch.gauges import set_gauges
from catimage.serving.tasks import CandidateLoad
from catimage.serving.telemetry.facade import Telemetry
from tests.serving.cores import CANDIDATES, answer, request, running_core
from tests.serving.groups import ScriptedGroup


def samples(telemetry: Telemetry) -> dict[str, str]:
    """Return the values of the metrics, by name and labels."""
    text = telemetry.exposition()[0].decode()
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def pressures(core: Core, telemetry: Telemetry) -> tuple[float, float]:
    """Return the pressure of the metrics and that of ``GET /v1/router``."""
    set_gauges(telemetry, core.fleet, core._router.live, core._admission.device_wait())
    return float(samples(telemetry)["catimage_pressure"]), core.router_document()["pressure"]


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
            set_gauges(telemetry, core.fleet, core._router.live, core._admission.device_wait())

    asyncio.run(run())
    values = samples(telemetry)
    assert 20 < float(values['catimage_queue_seconds{group="gauged"}']) <= 31
    assert values['catimage_breaker_state{candidate="mini-4"}'] == "2.0"
    assert values['catimage_breaker_state{candidate="mini-1"}'] == "0.0"
    assert float(values['catimage_budget{scope="service"}']) > 2.3
    assert float(values["catimage_pressure"]) > 0


def test_the_pressure_is_the_present_one_without_decisions_too(calibrated_folder: Path) -> None:
    telemetry = Telemetry()

    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.loads = {
            name: CandidateLoad(cost, cost / 2, 4)
            for name, cost in zip(CANDIDATES, (0.1, 0.2, 0.4), strict=True)
        }
        async with running_core(calibrated_folder, group, max_queue_seconds=100) as core:
            assert core.router_document()["latency_target"] == pytest.approx(1.2)
            await answer(core, request(model="mini-1"))  # pinned: nothing is decided
            await core.fleet.poll(core.fleet.members["g"])
            assert pressures(core, telemetry) == (0, 0)
            group.queue_seconds = 30.0
            await core.fleet.poll(core.fleet.members["g"])
            busy = pressures(core, telemetry)
            assert busy[0] == busy[1] > 0
            (routed,) = await core.route([request()])
            assert routed.pressure == busy[0]
            group.queue_seconds = 0.0
            await core.fleet.poll(core.fleet.members["g"])
            assert pressures(core, telemetry) == (0, 0)

    asyncio.run(run())


def test_the_latency_target_is_known_after_a_change_of_the_router(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(calibrated_folder, group) as core:
            before, champion = core.router_document()["latency_target"], core.versions.champion
            assert champion is not None
            await core.use(Versions(RouterVersion("2", champion.router)), "digest")
            document = core.router_document()
        assert document["version"] == "2" and document["latency_target"] == before
        assert before == pytest.approx(0.03)

    asyncio.run(run())
