"""Jobs: stored requests for images, which are answered when the load is low."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.concurrency import run_in_threadpool

from catimage.serving.api.errors import error_document, serving_error
from catimage.serving.messages import ApiKey, ImageRequest, JsonObject, ServingError
from catimage.serving.state.jobs import JobRecord, Jobs

AnswerJob = Callable[[ImageRequest, JsonObject], Awaitable[JsonObject]]
"""Answers a request with the options of its answer; cancelling it cancels the work."""

CONCURRENT = 2
"""Number of jobs that a replica runs at once."""
MAX_WAIT = 1.0
"""A job is started only if a request that arrives now would wait for at most these seconds."""
POLL_SECONDS, HEARTBEAT_SECONDS, STALE_SECONDS = 1.0, 2.0, 15.0
"""Intervals of polls for jobs and of heartbeats; age of the last heartbeat of a lost replica."""
MAX_WAITING = 1000
"""Number of jobs of one key that may wait."""
ATTEMPTS, PAUSE_SECONDS = 5, 5.0
"""Number of attempts of a job that fails for a reason that passes, and the pause between them."""
_LOG = logging.getLogger(__name__)


class JobRunner:
    """Runs the jobs in the shared state, below the priority of other requests.

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
        self._running: set[asyncio.Task[None]] = set()

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
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.gather(*self._running, return_exceptions=True)
            with contextlib.suppress(ServingError):  # the heartbeats end, so they are stale soon
                await run_in_threadpool(self._store.release, self._worker)

    async def _run_forever(self) -> None:
        while True:
            try:
                await run_in_threadpool(self._store.requeue_stale, STALE_SECONDS)
                while self._may_start() and (job := await self._claim()) is not None:
                    task = asyncio.create_task(self._run(job))
                    self._running.add(task)
                    task.add_done_callback(self._ended)
            except ServingError as error:
                _LOG.warning("jobs: %s", error.message)
            except Exception:  # never end: other jobs may succeed
                _LOG.exception("jobs: a job cannot be started")
            self._added.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._added.wait(), POLL_SECONDS)

    def _may_start(self) -> bool:
        wait = self._wait()
        free = self._answer is not None and len(self._running) < CONCURRENT
        return free and wait is not None and wait <= MAX_WAIT

    async def _claim(self) -> JobRecord | None:
        if not await run_in_threadpool(self._store.waiting):
            return None
        return await run_in_threadpool(self._store.claim, self._worker)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
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
            values = await work
            await run_in_threadpool(self._store.finish, job.job_id, self._worker, **values)
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

    async def _attempts(self, job: JobRecord) -> dict[str, JsonObject]:
        """Return the arguments ``result`` or ``error`` of :meth:`Jobs.finish`."""
        assert self._answer is not None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                request = request_of(job.request["request"])
                return {"result": await self._answer(request, job.request["answer"])}
            except Exception as error:
                found = serving_error(error)
                if attempt == ATTEMPTS or not found.retryable:
                    return {"error": error_document(found)["error"]}
            await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")


def request_document(request: ImageRequest) -> JsonObject:
    """Return a request as JSON."""
    return asdict(request)


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
