from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from shutil import copytree

import pytest

from catimage.params.serving import ServingParams
from catimage.serving.core import Core
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.dispatch.runner import CLIENT_CLOSED_REQUEST
from catimage.serving.messages import ApiKey, RouteRequest, ServingError
from catimage.serving.state.store import State
from catimage.serving.tasks import CandidateLoad
from catimage.workspace import Workspace
from tests.serving.cores import CANDIDATES, Log, answer, request, running_core
from tests.serving.groups import ScriptedGroup, hang

PLAIN = "plain cedar dune number 3"


def test_the_router_selects_the_candidate_and_the_result_has_its_costs(
    calibrated_folder: Path,
) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(calibrated_folder, group) as core:
            images, result = await answer(core, request(n=3, lam=0.05))
            plain = (await answer(core, request(prompt=PLAIN, lam=0.05)))[1]
        assert [image.index for image in images] == [0, 1, 2]
        assert group.tasks[0].seeds == (7, 8, 9)
        assert result.candidate == "mini-4" and plain.candidate == "mini-1"
        assert (result.cost, result.saved, result.reference) == (12.0, 0.0, "mini-4")
        assert (plain.cost, plain.saved) == (1.0, 3.0)
        assert result.batch_size == 3 and result.seconds["total"] > result.seconds["route"] > 0

    asyncio.run(run())


def test_concurrent_requests_are_decided_and_logged_once_each(calibrated_folder: Path) -> None:
    async def run() -> None:
        group, log = ScriptedGroup("g", *CANDIDATES), Log()
        async with running_core(calibrated_folder, group, telemetry=log) as core:
            requests = [request(request_id=f"r{i}", draw=f"r{i}", seed=i) for i in range(64)]
            answers = await asyncio.gather(*(answer(core, r) for r in requests))
            document = core.router_document()
        assert sorted(task.seeds for task in group.tasks) == [(i,) for i in range(64)]
        assert sorted(r.request_id for r, _, status in log.rows if status == 200) == sorted(
            r.request_id for r in requests
        )
        mean = sum(result.cost for _, result in answers) / 64
        assert document["budgets"]["service"]["mean_cost"] == pytest.approx(mean)
        assert document["mean_cost"] == pytest.approx(mean)
        assert document["budget"] == pytest.approx(document["calibrated_budget"])

    asyncio.run(run())


def test_a_client_that_leaves_cancels_its_work_and_frees_its_reservation(
    calibrated_folder: Path, tmp_path: Path
) -> None:
    async def run() -> None:
        state = State.open(f"sqlite:///{tmp_path}/state.db")
        group, log = ScriptedGroup("g", *CANDIDATES), Log()
        group.scripts = [hang]
        key = ApiKey("k", "client", ceiling=1.0)
        async with running_core(calibrated_folder, group, state=state, telemetry=log) as core:
            left = asyncio.create_task(answer(core, request(model="mini-1", key=key)))
            while not group.tasks:
                await asyncio.sleep(0.01)
            with pytest.raises(ServingError) as refused:
                await answer(core, request(model="mini-1", key=key))
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            await core.drained()
            assert group.cancelled == [group.tasks[0]]
            _, result = await answer(core, request(model="mini-1", key=key))
            await core.drained()
        assert refused.value.code == "insufficient_quota"
        assert result.cost == 1.0 and state.spending.spent("k") == 1.0
        assert [status for _, _, status in log.rows] == [429, CLIENT_CLOSED_REQUEST, 200]
        state.close()

    asyncio.run(run())


def test_concurrent_requests_never_exceed_a_ceiling(
    calibrated_folder: Path, tmp_path: Path
) -> None:
    async def run() -> None:
        state = State.open(f"sqlite:///{tmp_path}/state.db")
        key = ApiKey("k", "client", ceiling=5.0)
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(calibrated_folder, group, state=state) as core:
            image_request = request(model="mini-1", key=key)
            outcomes = await asyncio.gather(
                *(answer(core, image_request) for _ in range(16)), return_exceptions=True
            )
            await core.drained()
        codes = Counter(o.code if isinstance(o, ServingError) else "ok" for o in outcomes)
        assert codes == {"ok": 5, "insufficient_quota": 11}
        assert state.spending.spent("k") == 5.0
        state.close()

    asyncio.run(run())


def test_a_thousand_requests_at_once_are_refused_at_once(calibrated_folder: Path) -> None:
    async def run() -> None:
        slow = CandidateLoad(seconds=0.5, batch_seconds=0.5, batch_size=1)
        group = ScriptedGroup("g", *CANDIDATES, load=slow)
        group.scripts = [hang] * 1000
        times: list[float] = []

        async def ask(core: Core, began: float) -> None:
            try:
                await answer(core, request(lam=0.05))
            except ServingError as error:
                assert (error.status, error.code) == (429, "overloaded")
                assert error.retry_after is not None
                times.append(time.process_time() - began)

        async with running_core(calibrated_folder, group) as core:
            began = time.process_time()  # independent of the other processes of the machine
            tasks = [asyncio.create_task(ask(core, began)) for _ in range(1000)]
            await asyncio.sleep(1.5)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert len(group.tasks) == 41  # 20 seconds of work, and one that waits 20 seconds
        assert len(times) == 959 and max(times) < 1.0

    asyncio.run(run())


def test_pressure_selects_faster_candidates_before_requests_are_refused(
    calibrated_folder: Path,
) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.loads = {
            name: CandidateLoad(cost, cost / 2, 4)
            for name, cost in zip(CANDIDATES, (0.1, 0.2, 0.4), strict=True)
        }
        async with running_core(calibrated_folder, group, latency_target=2.0) as core:
            idle = (await answer(core, request(n=10, lam=0.05)))[1].routed
            await core.fleet.poll(core.fleet.members["g"])
            group.queue_seconds = 1.6
            await core.fleet.poll(core.fleet.members["g"])
            loaded = (await core.route([request(lam=0.05)]))[0]
            (limited,) = await core.route([request(lam=0.05, max_latency=1.9)])
        assert (idle.candidate, idle.pressure) == ("mini-4", 0.0)
        assert loaded.candidate == "mini-1" and loaded.pressure > 0
        assert limited.excluded == {"mini-4": "latency"}

    asyncio.run(run())


def test_accepted_requests_are_finished_during_a_shutdown(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(calibrated_folder, group) as core:
            accepted = asyncio.create_task(answer(core))
            await asyncio.sleep(0)
            core.drain()
            with pytest.raises(ServingError) as refused:
                await answer(core)
            await core.drained()
            assert accepted.done() or len((await accepted)[0]) == 1
        assert (refused.value.status, refused.value.code) == (503, "draining")
        assert not core.ready and core.status()["draining"]

    asyncio.run(run())


def test_without_a_router_the_fallback_candidate_answers(
    calibrated_folder: Path, tmp_path: Path
) -> None:
    copytree(calibrated_folder, tmp_path / "w")
    (tmp_path / "w" / "models" / "router" / "curve.parquet").write_bytes(b"damaged")

    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(tmp_path / "w", group, fallback="mini-2") as core:
            _, result = await answer(core)
            status, document = core.status(), core.router_document()
        assert result.candidate == "mini-2" and result.routed.router_version == "fallback"
        assert (result.cost, result.saved) == (2.0, 2.0)
        assert "curve.parquet" in status["router"]["problem"]
        assert document["version"] == "fallback" and document["curve"] == []

    asyncio.run(run())


def test_invalid_settings_keep_the_service_from_becoming_ready(
    calibrated_folder: Path, tmp_path: Path
) -> None:
    async def run() -> None:
        state = State.open(f"sqlite:///{tmp_path}/state.db")
        settings = ServingParams(reference="x")
        core = Core(Workspace(calibrated_folder), settings, {"g": ScriptedGroup("g")}, state)
        await core.start()
        async with asyncio.timeout(30):
            while "reference" not in str(problem := core.status()["router"]["problem"]):
                await asyncio.sleep(0.01)
        with pytest.raises(ServingError) as refused:
            await core.route([request()])
        assert problem.startswith("serving.reference: no candidate of the router is called 'x'")
        assert not core.ready and refused.value.status == 503
        await core.close()
        state.close()

    asyncio.run(run())


def test_requests_continue_while_the_champion_is_changed(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_core(calibrated_folder, group) as core:
            champion = core.versions.champion
            assert champion is not None

            async def ask(i: int) -> str:
                _, result = await answer(core, request(request_id=f"r{i}", draw=i))
                return result.routed.router_version

            before = asyncio.gather(*(ask(i) for i in range(32)))
            await asyncio.sleep(0.001)
            change = asyncio.create_task(
                core.use(Versions(RouterVersion("2", champion.router)), "digest")
            )
            during = asyncio.gather(*(ask(i) for i in range(32)))
            await change
            after = await asyncio.gather(*(ask(i) for i in range(8)))
            assert {*await before, *await during} <= {champion.version, "2"}
            assert core.router_document()["digest"] == "digest"
        assert set(after) == {"2"}

    asyncio.run(run())


def test_the_documents_describe_the_candidates(calibrated_folder: Path) -> None:
    async def run() -> None:
        group = ScriptedGroup("g", "mini-1", "mini-4")
        async with running_core(calibrated_folder, group) as core:
            models, router = core.models(), core.router_document()
            with pytest.raises(ServingError) as unknown:
                await answer(core, request(model="mini-3"))
            with pytest.raises(ServingError) as down:
                await answer(core, request(model="mini-2"))
        assert [m["id"] for m in models] == ["mini-1", "mini-2", "mini-4"]
        assert [m["available"] for m in models] == [True, False, True]
        assert models[0]["size"] == "64x64" and models[0]["seconds"] == 0.01
        assert router["metric"] == "clip_score" and router["estimator"] == "ridge"
        assert len(router["curve"][0]) == 3 and router["candidates"] == models
        assert router["budgets"]["service"]["budget"] == pytest.approx(2.4)
        assert (unknown.value.status, down.value.status) == (404, 503)

    asyncio.run(run())


def test_many_prompts_are_routed_in_one_call(calibrated_folder: Path) -> None:
    async def run() -> None:
        async with running_core(calibrated_folder, ScriptedGroup("g", *CANDIDATES)) as core:
            prompts = ["crowded amber basil number 1", PLAIN] * 16
            requests = [RouteRequest(p, f"r{i}", i, lam=0.05) for i, p in enumerate(prompts)]
            routed = await core.route(requests)
        assert [r.candidate for r in routed] == ["mini-4", "mini-1"] * 16

    asyncio.run(run())
