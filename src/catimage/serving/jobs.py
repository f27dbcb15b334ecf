"""Jobs: stored requests for images, which are answered when the load is low."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any

from starlette.concurrency import run_in_threadpool

from catimage.serving.api.errors import error_document, serving_error
from catimage.serving.messages import ApiKey, ImageRequest, JsonObject, ServingError
from catimage.serving.state.jobs import JobRecord, Jobs

AnswerJob = Callable[[ImageRequest, JsonObject], Awaitable[JsonObject]]
"""Answers a request with the options of its answer; cancelling it cancels the work."""

CONCURRENT = 2
"""Number of jobs that a replica runs at once."""
MAX_WAIT, MAX_AGE = 1.0, 900.0
"""Limits in seconds for the start of a job, see :func:`longest_wait`."""
POLL_SECONDS, HEARTBEAT_SECONDS, STALE_SECONDS = 1.0, 2.0, 15.0
"""Intervals of polls for jobs and of heartbeats; age of the last heartbeat of a lost replica."""
MAX_WAITING = 1000
"""Number of jobs of one key that may wait."""
ATTEMPTS, PAUSE_SECONDS = 5, 5.0
"""Number of attempts of a job that fails for a reason that passes, and the pause between them."""
_LOG = logging.getLogger(__name__)


class JobRunner:
    """Runs the jobs in the shared state, below the priority of other requests.

    The oldest job is the next one. It starts if the load is low; the longer it waits, the higher
    the load may be (:func:`longest_wait`), so that every job starts in the end. Under a high load,
    a replica runs one job at a time.

    A job of a replica that has ended is started again by another one, or after the restart.
    Its seed is stored with it, so that its images are the same.

    Args:
        store: the table of the jobs.
        worker: identifier of this replica, which no other running replica has.
        wait: returns the estimated wait of a request that arrives now, in seconds; None if requests
            cannot be answered.
    """

    def __init__(self, store: Jobs, worker: str, wait: Callable[[], float | None]) -> None:
        self._store, self._worker, self._wait = store, worker, wait
        self._answer: AnswerJob | None = None
        self._added = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._running: dict[asyncio.Task[None], str] = {}
        self._claiming: asyncio.Future[JobRecord | None] | None = None
        self._outage = -math.inf

    def use(self, answer: AnswerJob) -> None:
        """Set the function that answers jobs; no job is started before."""
        self._answer = answer
        self._added.set()

    async def submit(self, request: ImageRequest, answer: JsonObject) -> JobRecord:
        """Store a request.

        Args:
            request: the request.
            answer: the options of the answer, which the function that answers jobs receives.

        Raises:
            ServingError: too many jobs of the key wait (429), or the database cannot be used (503).
        """
        document = {"request": request_document(request), "answer": answer}
        key_id = request.key.key_id if request.key else None
        if await run_in_threadpool(self._store.waiting, key_id) >= MAX_WAITING:
            message = f"jobs: {MAX_WAITING} are already waiting. Try again later."
            raise ServingError(message, 429, "too_many_jobs", retry_after=60.0)
        job = await run_in_threadpool(self._store.add, document, key_id)
        self._added.set()
        return job

    async def start(self) -> None:
        """Start to poll for jobs."""
        self._loop = asyncio.create_task(self._run_forever())

    async def close(self) -> None:
        """Stop, and return the running jobs to the queue."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
            self._loop = None
        if self._claiming is not None:  # its thread may have started a job
            await asyncio.gather(self._claiming, return_exceptions=True)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        with contextlib.suppress(ServingError):  # the heartbeats end, so they are stale soon
            await run_in_threadpool(self._store.release, self._worker)

    async def _run_forever(self) -> None:
        while True:
            try:
                await self._requeue_stale()
                while (job := await self._claim()) is not None:
                    task = asyncio.create_task(self._run(job))
                    self._running[task] = job.job_id
                    task.add_done_callback(self._ended)
            except ServingError as error:
                self._outage = time.monotonic()
                _LOG.warning("jobs: %s", error.message)
            except Exception:  # never end: other jobs may succeed
                _LOG.exception("jobs: a job cannot be started")
            self._added.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._added.wait(), POLL_SECONDS)

    async def _requeue_stale(self) -> None:
        """Return the jobs of lost replicas to the queue.

        In an outage of the database, no replica can report that its jobs are in progress, so after
        it they have time to do so.
        """
        if time.monotonic() - self._outage >= STALE_SECONDS:
            running = list(self._running.values())
            await run_in_threadpool(self._store.requeue_stale, STALE_SECONDS, spare=running)

    async def _claim(self) -> JobRecord | None:
        """Start the oldest job in the table, unless there is none, or the load is too high."""
        wait = self._wait()
        if self._answer is None or wait is None or len(self._running) >= CONCURRENT:
            return None
        age = await run_in_threadpool(self._store.oldest_age)
        if age is None or wait > longest_wait(age) or (wait > MAX_WAIT and self._running):
            return None
        claim = run_in_threadpool(self._store.claim, self._worker)
        self._claiming = asyncio.ensure_future(claim)
        return await asyncio.shield(self._claiming)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._added.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a job could not be stored: %s", type(error).__name__)

    async def _run(self, job: JobRecord) -> None:
        """Run a job while the heartbeats show that it should continue."""
        work = asyncio.create_task(self._attempts(job))
        try:
            while not (await asyncio.wait({work}, timeout=HEARTBEAT_SECONDS))[0]:
                if not await self._continues(job):
                    _LOG.info("job %s was cancelled", job.job_id)
                    return
            await self._finish(job, await work)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _continues(self, job: JobRecord) -> bool:
        """Report progress, and return whether the job should continue, also in an outage."""
        try:
            return await run_in_threadpool(self._store.heartbeat, job.job_id, self._worker)
        except ServingError as error:  # its images may be paid for already
            _LOG.warning("job %s: %s", job.job_id, error.message)
            return True

    async def _finish(self, job: JobRecord, values: dict[str, JsonObject]) -> None:
        """Store the end of a job; after an outage, because its images may be paid for."""
        while True:
            try:
                await run_in_threadpool(self._store.finish, job.job_id, self._worker, **values)
                return
            except ServingError as error:
                _LOG.warning("job %s is not stored yet: %s", job.job_id, error.message)
            await asyncio.sleep(POLL_SECONDS)

    async def _attempts(self, job: JobRecord) -> dict[str, JsonObject]:
        """Return the arguments ``result`` or ``error`` of :meth:`Jobs.finish`."""
        assert self._answer is not None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                request = replace(request_of(job.request["request"]), job=True)
                return {"result": await self._answer(request, job.request["answer"])}
            except Exception as error:
                found = serving_error(error)
                if attempt == ATTEMPTS or not found.retryable:
                    return {"error": error_document(found)["error"]}
            await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")


def longest_wait(age: float) -> float:
    """Return the estimated wait of a new request above which a job is not started (aging).

    It is :data:`MAX_WAIT` for a new job, twice as long at half of :data:`MAX_AGE`, ten times at 90%
    of it, and infinite from there on.

    Args:
        age: seconds since the job was submitted.
    """
    return MAX_WAIT / (1 - max(age, 0.0) / MAX_AGE) if age < MAX_AGE else math.inf


def request_document(request: ImageRequest) -> JsonObject:
    """Return a request as JSON."""
    return {name: value for name, value in asdict(request).items() if name != "job"}


def request_of(document: JsonObject) -> ImageRequest:
    """Return the request of a document of :func:`request_document`.

    Raises:
        ServingError: another version of the service has stored it.
    """
    values: dict[str, Any] = dict(document)
    try:
        values["key"] = None if values["key"] is None else ApiKey(**values["key"])
        values["size"] = None if values["size"] is None else tuple(values["size"])
        return ImageRequest(**values)
    except (KeyError, TypeError) as error:
        raise ServingError(
            "job: another version of the service stored it. Send it again.", code="job_invalid"
        ) from error
