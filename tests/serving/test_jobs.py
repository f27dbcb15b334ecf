from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from catimage.serving import jobs
from catimage.serving.jobs import JobRunner, longest_wait, request_document, request_of
from catimage.serving.messages import ApiKey, ImageRequest, JsonObject, ServingError
from catimage.serving.state.jobs import JobRecord
from catimage.serving.state.store import State
from tests.serving.cores import request
from tests.serving.state.helpers import Clock

Answer = Callable[[ImageRequest, JsonObject], Awaitable[JsonObject]]


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_SECONDS", "HEARTBEAT_SECONDS", "PAUSE_SECONDS"):
        monkeypatch.setattr(jobs, name, 0.03)


@asynccontextmanager
async def runner(
    state: State, answer: Answer, worker: str = "w", wait: float | None = 0.0
) -> AsyncIterator[JobRunner]:
    """Run jobs with a function that answers them."""
    running = JobRunner(state.jobs, worker, lambda: wait)
    running.use(answer)
    await running.start()
    try:
        yield running
    finally:
        await running.close()


async def ended(state: State, job: JobRecord, *statuses: str) -> JobRecord:
    """Wait until a job has one of some statuses."""
    async with asyncio.timeout(10):
        while True:
            found = state.jobs.get(job.job_id, job.key_id)
            assert found is not None
            if found.status in (statuses or ("succeeded", "failed", "cancelled")):
                return found
            await asyncio.sleep(0.01)


async def seed_answer(image_request: ImageRequest, options: JsonObject) -> JsonObject:
    return {"seeds": list(image_request.seeds), **options}


async def endless(image_request: ImageRequest, options: JsonObject) -> JsonObject:
    await asyncio.Event().wait()
    return {}


def unreachable(*_: object, **__: object) -> None:
    raise ServingError("state: down. Try again later.", 503)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.open(f"sqlite:///{tmp_path}/state.db")


def test_a_request_is_restored_from_its_row() -> None:
    key = ApiKey("k", "name", ceiling=2.0)
    image_request = request(n=2, size=(64, 64), key=key, negative_prompt="x")
    assert request_of(request_document(image_request)) == image_request
    with pytest.raises(ServingError, match="another version"):
        request_of({"prompt": "x", "key": None, "size": None, "new_field": 1})


def test_jobs_are_answered_with_their_stored_seeds(state: State) -> None:
    async def run() -> None:
        async with runner(state, seed_answer) as running:
            submitted = [await running.submit(request(n=2, seed=i), {"i": i}) for i in range(8)]
            done = [await ended(state, job) for job in submitted]
        assert [job.result for job in done] == [{"seeds": [i, i + 1], "i": i} for i in range(8)]

    asyncio.run(run())


def test_two_replicas_answer_each_job_once(state: State) -> None:
    answered: list[int] = []

    async def count(image_request: ImageRequest, options: JsonObject) -> JsonObject:
        answered.append(image_request.seed)
        await asyncio.sleep(0.01)
        return {}

    async def run() -> None:
        async with runner(state, count, "a") as first, runner(state, count, "b"):
            submitted = [await first.submit(request(seed=i), {}) for i in range(16)]
            workers = {(await ended(state, job)).worker for job in submitted}
        assert sorted(answered) == list(range(16)) and workers == {"a", "b"}

    asyncio.run(run())


@pytest.mark.parametrize("wait", [None, 2.0])
def test_jobs_wait_while_the_service_is_busy_or_not_ready(state: State, wait: float | None) -> None:
    async def run() -> None:
        async with runner(state, seed_answer, wait=wait) as running:
            job = await running.submit(request(), {})
            await asyncio.sleep(0.2)
            found = state.jobs.get(job.job_id)
            assert found is not None and found.status == "queued"

    asyncio.run(run())


def test_the_load_under_which_a_job_starts_grows_with_its_age() -> None:
    ages = (-5.0, 0.0, 450.0, 810.0, 899.0, 900.0, 1e6)
    limits = [longest_wait(age) for age in ages]
    assert limits == pytest.approx([1.0, 1.0, 2.0, 10.0, 900.0, math.inf, math.inf])


def test_an_old_job_starts_under_load_but_only_one_at_a_time(tmp_path: Path) -> None:
    clock, load = Clock(), [1.9]
    state = State.open(f"sqlite:///{tmp_path}/state.db", clock=clock)
    answered, release = list[ImageRequest](), asyncio.Event()

    async def work(image_request: ImageRequest, options: JsonObject) -> JsonObject:
        answered.append(image_request)
        await release.wait()
        return {}

    async def run() -> None:
        running = JobRunner(state.jobs, "w", lambda: load[0])
        running.use(work)
        submitted = []
        for i in range(3):
            submitted.append(await running.submit(request(seed=i), {}))
            clock.now += 1.0
        await running.start()
        await asyncio.sleep(0.1)
        assert answered == []
        clock.now += 450.0  # the limit is 2 seconds
        await ended(state, submitted[0], "running")
        await asyncio.sleep(0.1)
        assert len(answered) == 1
        load[0] = 0.0
        await ended(state, submitted[1], "running")
        load[0] = 1000.0
        release.set()
        await ended(state, submitted[1])
        await asyncio.sleep(0.1)
        assert len(answered) == 2
        clock.now += 450.0  # nothing keeps it any more
        await ended(state, submitted[2])
        await running.close()

    asyncio.run(run())
    assert [r.seed for r in answered] == [0, 1, 2] and all(r.job for r in answered)
    state.close()


def test_a_running_job_is_cancelled(state: State) -> None:
    stopped = asyncio.Event()

    async def work(image_request: ImageRequest, options: JsonObject) -> JsonObject:
        try:
            return await endless(image_request, options)
        finally:
            stopped.set()

    async def run() -> None:
        async with runner(state, work) as running:
            job = await running.submit(request(), {})
            await ended(state, job, "running")
            state.jobs.cancel(job.job_id)
            async with asyncio.timeout(5):
                await stopped.wait()
        assert (await ended(state, job)).status == "cancelled"

    asyncio.run(run())


def test_the_jobs_of_a_replica_that_stops_or_dies_are_run_again(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with runner(state, endless, "stopped") as running:
            released = await running.submit(request(seed=1), {})
            await ended(state, released, "running")
        dead = state.jobs.add({"request": request_document(request(seed=2)), "answer": {}})
        await ended(state, released, "queued")
        while (claimed := state.jobs.claim("dead")) and claimed.job_id != dead.job_id:
            pass
        monkeypatch.setattr(jobs, "STALE_SECONDS", 0.05)
        await asyncio.sleep(0.1)
        async with runner(state, seed_answer, "next"):
            results = [(await ended(state, job)).result for job in (released, dead)]
        assert results == [{"seeds": [1]}, {"seeds": [2]}]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "attempts", "code"),
    [
        (ServingError("service: overloaded. Wait.", 429, "overloaded"), 5, "overloaded"),
        (ServingError("prompt: moderated.", 400, "moderation_blocked"), 1, "moderation_blocked"),
        (RuntimeError("a bug"), 1, "internal_error"),
    ],
)
def test_only_failures_that_pass_are_tried_again(
    state: State, error: Exception, attempts: int, code: str
) -> None:
    tried: list[int] = []

    async def fail(image_request: ImageRequest, options: JsonObject) -> JsonObject:
        tried.append(image_request.seed)
        raise error

    async def run() -> None:
        async with runner(state, fail) as running:
            done = await ended(state, await running.submit(request(), {}))
        assert done.status == "failed" and done.error is not None and done.error["code"] == code
        assert tried == [7] * attempts

    asyncio.run(run())


def test_an_outage_of_the_database_does_not_end_a_job_that_may_be_paid_for(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(image_request: ImageRequest, options: JsonObject) -> JsonObject:
        await asyncio.sleep(0.3)
        return {"done": True}

    async def run() -> None:
        async with runner(state, slow) as running:
            job = await running.submit(request(), {})
            await ended(state, job, "running")
            monkeypatch.setattr(state.jobs, "heartbeat", unreachable)
            found = await ended(state, job)
        assert (found.status, found.result, found.attempts) == ("succeeded", {"done": True}, 1)

    asyncio.run(run())


def test_a_row_that_cannot_be_read_does_not_end_the_jobs(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        claim, damaged = state.jobs.claim, [True]

        def once(worker: str) -> JobRecord | None:
            if damaged.pop():
                damaged.append(False)
                raise ValueError("not JSON")
            damaged.append(False)
            return claim(worker)

        monkeypatch.setattr(state.jobs, "claim", once)
        async with runner(state, seed_answer) as running:
            found = await ended(state, await running.submit(request(n=1, seed=3), {}))
        assert found.result == {"seeds": [3]}

    asyncio.run(run())


def test_the_result_of_a_job_is_stored_after_an_outage(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[int] = []

    async def work(image_request: ImageRequest, options: JsonObject) -> JsonObject:
        answered.append(image_request.seed)
        await asyncio.sleep(0.1)
        return {"done": True}

    async def run() -> None:
        async with runner(state, work) as running:
            job = await running.submit(request(), {})
            await ended(state, job, "running")
            monkeypatch.setattr(jobs, "STALE_SECONDS", 0.2)
            names = ("heartbeat", "finish", "requeue_stale", "oldest_age")
            with monkeypatch.context() as outage:
                for name in names:
                    outage.setattr(state.jobs, name, unreachable)
                await asyncio.sleep(0.4)
            found = await ended(state, job)
        assert (found.status, found.result, found.attempts) == ("succeeded", {"done": True}, 1)

    asyncio.run(run())
    assert answered == [7]


def test_after_an_outage_other_replicas_have_time_to_report_their_jobs(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "STALE_SECONDS", 0.3)

    async def run() -> None:
        job = state.jobs.add({"request": request_document(request()), "answer": {}})
        state.jobs.claim("other")
        with monkeypatch.context() as outage:
            outage.setattr(state.jobs, "oldest_age", unreachable)
            async with runner(state, seed_answer, "mine"):
                await asyncio.sleep(0.4)  # the heartbeat of the other replica is stale now
        assert (await ended(state, job, "running")).worker == "other"
        other = JobRunner(state.jobs, "mine", lambda: 0.0)
        other._outage = time.monotonic()
        await other._requeue_stale()
        assert (await ended(state, job, "running")).worker == "other"
        other._outage -= 0.3
        await other._requeue_stale()
        await ended(state, job, "queued")

    asyncio.run(run())


def test_a_job_that_is_claimed_during_the_shutdown_returns_to_the_queue(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, began = state.jobs.claim, threading.Event()

    def slow_claim(worker: str) -> JobRecord | None:
        began.set()
        time.sleep(0.1)
        return claim(worker)

    async def run() -> None:
        monkeypatch.setattr(state.jobs, "claim", slow_claim)
        async with runner(state, seed_answer) as running:
            job = await running.submit(request(), {})
            await asyncio.to_thread(began.wait, 5)
        found = state.jobs.get(job.job_id)
        assert found is not None and (found.status, found.attempts) == ("queued", 0)

    asyncio.run(run())
