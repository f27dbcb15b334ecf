"""Jobs: image requests that are stored, claimed by one replica, and survive a restart."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)

from catimage.serving.messages import JsonObject
from catimage.serving.state.database import Database
from catimage.serving.state.tables import jobs

QUEUED, RUNNING = "queued", "running"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
"""The values of ``status``."""
_ID = re.compile(r"job-[A-Za-z0-9_-]{24}")


@dataclass(frozen=True)
class JobRecord:
    """A row of the table of jobs.

    Attributes:
        job_id: identifier of the job.
        key_id: the key of the client; None without keys.
        status: ``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``.
        request: the request.
        created: time of the creation, in seconds since the epoch.
        started: time of the last start; None if it has not started.
        finished: time of the end; None if it has not ended.
        worker: the replica that runs the job, or that ran it last.
        attempts: number of starts.
        result: the result of a job that succeeded.
        error: the error of a job that failed.
    """

    job_id: str
    key_id: str | None
    status: str
    request: JsonObject
    created: float
    started: float | None = None
    finished: float | None = None
    worker: str | None = None
    attempts: int = 0
    result: JsonObject | None = None
    error: JsonObject | None = None


class Jobs:
    """The table of jobs."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def add(self, request: Mapping[str, Any], key_id: str | None = None) -> JobRecord:
        """Add a job to the queue.

        Args:
            request: the request, which has to be serialisable as JSON.
            key_id: the key of the client.

        Raises:
            ServingError: the database cannot be used (503), as for the other methods.
        """
        job_id = f"job-{secrets.token_urlsafe(18)}"
        job = JobRecord(job_id, key_id, QUEUED, dict(request), self._clock())
        with self._database.write() as connection:
            connection.execute(
                insert(jobs).values(
                    job_id=job_id,
                    key_id=key_id,
                    status=QUEUED,
                    created=job.created,
                    attempts=0,
                    request=json.dumps(job.request),
                )
            )
        return job

    def get(self, job_id: str, key_id: str | None = None) -> JobRecord | None:
        """Return a job of a client; None if it does not exist or belongs to another key."""
        if not _ID.fullmatch(job_id):  # PostgreSQL refuses some characters
            return None
        with self._database.read() as connection:
            query = select(jobs).filter_by(job_id=job_id, key_id=key_id)
            row = connection.execute(query).mappings().first()
        return None if row is None else _job(row)

    def waiting(self, key_id: str | None = None) -> int:
        """Return the number of jobs that wait: all of them, or those of one key."""
        query = select(func.count()).select_from(jobs).filter_by(status=QUEUED)
        with self._database.read() as connection:
            mine = query if key_id is None else query.filter_by(key_id=key_id)
            return int(connection.execute(mine).scalar_one())

    def oldest_age(self) -> float | None:
        """Return the seconds since the oldest job that waits was added; None if none waits."""
        query = select(func.min(jobs.c.created)).filter_by(status=QUEUED)
        with self._database.read() as connection:
            created = connection.scalar(query)
        return None if created is None else self._clock() - created

    def claim(self, worker: str) -> JobRecord | None:
        """Start the oldest job that waits; no other replica gets it.

        Args:
            worker: identifier of the replica.

        Returns:
            The job, which is running now; None if no job waits.
        """
        oldest = select(jobs.c.job_id).filter_by(status=QUEUED).limit(1)
        oldest = oldest.order_by(jobs.c.created, jobs.c.job_id).with_for_update(skip_locked=True)
        now = self._clock()
        start = {"status": RUNNING, "started": now, "heartbeat": now, "worker": worker}
        with self._database.write() as connection:
            job_id = connection.scalar(oldest)
            if job_id is None:
                return None
            values = {**start, "attempts": jobs.c.attempts + 1}
            query = update(jobs).filter_by(job_id=job_id).values(**values).returning(jobs)
            return _job(connection.execute(query).mappings().one())

    def heartbeat(self, job_id: str, worker: str) -> bool:
        """Report that a job is in progress.

        Returns:
            Whether the job should continue. If not, it was cancelled, or another replica has it.
        """
        return self._change(_running(job_id, worker), heartbeat=self._clock())

    def finish(
        self,
        job_id: str,
        worker: str,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> bool:
        """End a job with its result, or with its error.

        Returns:
            Whether the result was stored. If not, the job was cancelled, or another replica has it.
        """
        return self._change(
            _running(job_id, worker),
            status=SUCCEEDED if error is None else FAILED,
            finished=self._clock(),
            result=None if result is None else json.dumps(dict(result)),
            error=None if error is None else json.dumps(dict(error)),
        )

    def cancel(self, job_id: str, key_id: str | None = None) -> JobRecord | None:
        """Cancel a job of a client that has not ended.

        Returns:
            The job, whatever its status is now; None if it does not exist or belongs to another
            key.
        """
        if not _ID.fullmatch(job_id):
            return None
        mine = and_(jobs.c.job_id == job_id, _equal(key_id), jobs.c.status.in_((QUEUED, RUNNING)))
        self._change(mine, status=CANCELLED, finished=self._clock())
        return self.get(job_id, key_id)

    def release(self, worker: str) -> int:
        """Return the running jobs of a replica to the queue, as it shuts down; return how many.

        Their last start does not count as an attempt.
        """
        return self._requeue(jobs.c.worker == worker, attempts=None)

    def requeue_stale(
        self, seconds: float = 60.0, attempts: int = 3, spare: Collection[str] = ()
    ) -> int:
        """Return jobs without a heartbeat to the queue; return how many.

        Args:
            seconds: age of the last heartbeat after which the replica is considered lost.
            attempts: number of starts after which the job fails instead, as it may be the cause.
            spare: the jobs that this replica is known to run.
        """
        stale = jobs.c.heartbeat < self._clock() - seconds
        return self._requeue(and_(stale, jobs.c.job_id.not_in(spare)), attempts)

    def purge(self, days: float = 1.0) -> int:
        """Delete jobs that ended some days ago, with their prompts; return their number."""
        old = delete(jobs).where(jobs.c.finished < self._clock() - days * 86_400)
        with self._database.write() as connection:
            return connection.execute(old).rowcount

    def expired(self, days: float = 1.0) -> tuple[int, int]:
        """Return the number and the bytes of the jobs that :meth:`purge` deletes."""
        texts = (jobs.c.request, jobs.c.result, jobs.c.error)
        size = sum((func.coalesce(func.length(text), 0) for text in texts), literal(0))
        query = select(func.count(), func.coalesce(func.sum(size), 0))
        with self._database.read() as connection:
            old = jobs.c.finished < self._clock() - days * 86_400
            row = connection.execute(query.where(old)).one()
        return int(row[0]), int(row[1])

    def _requeue(self, condition: ColumnElement[bool], attempts: int | None) -> int:
        message = "The service stopped while it ran the job, several times. Send it again."
        error = json.dumps({"message": message, "code": "job_interrupted"})
        last = jobs.c.attempts >= (attempts or 2**31 - 1)
        values = {
            "attempts": jobs.c.attempts - int(attempts is None),
            "status": case((last, FAILED), else_=QUEUED),
            "finished": case((last, self._clock())),
            "error": case((last, error)),
        }
        query = update(jobs).filter_by(status=RUNNING).where(condition).values(**values)
        with self._database.write() as connection:
            return connection.execute(query).rowcount

    def _change(self, condition: ColumnElement[bool], **values: object) -> bool:
        with self._database.write() as connection:
            return connection.execute(update(jobs).where(condition).values(**values)).rowcount > 0


def _running(job_id: str, worker: str) -> ColumnElement[bool]:
    return and_(jobs.c.job_id == job_id, jobs.c.worker == worker, jobs.c.status == RUNNING)


def _equal(key_id: str | None) -> ColumnElement[bool]:
    return jobs.c.key_id.is_(None) if key_id is None else jobs.c.key_id == key_id


def _job(row: RowMapping) -> JobRecord:
    values = {name: row[name] for name in JobRecord.__dataclass_fields__}
    for name in ("request", "result", "error"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return JobRecord(**values)
