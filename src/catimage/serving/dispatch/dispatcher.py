"""Dispatch with fallback: when a candidate fails, the next best one answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from catimage.serving.dispatch.account import Account
from catimage.serving.dispatch.attempt import run_task
from catimage.serving.dispatch.delivery import Delivery
from catimage.serving.dispatch.errors import final_error, timed_out, unanswered, unavailable
from catimage.serving.dispatch.fleet import Fleet
from catimage.serving.dispatch.members import Member
from catimage.serving.generator.failures import (
    GenerationFailure,
    GroupUnavailable,
    QueueFull,
    TaskFailed,
    TaskRefused,
    TaskTimedOut,
    may_fall_back,
)
from catimage.serving.messages import ImageRequest, ServingError
from catimage.serving.state.spending import CEILING_CODE
from catimage.serving.tasks import FinishedImage, FinishedTask, ImageTask, Preview

CEILING = "ceiling"
"""Code of the failure of a candidate that costs more than the ceiling of the key leaves."""
OUTAGES = 3
"""Number of times that a request waits for a group to come back, in case it is the cause."""
_LOG = logging.getLogger(__name__)


@dataclass
class Work:
    """One accepted request.

    Attributes:
        request: the request.
        candidates: the candidates that may answer, in the order in which they are tried.
        deadline: time on the clock of the fleet at which the request fails.
        account: the cost of the request.
        delivery: receives the images.
        sent: called when the first task is sent.
        failures: the codes of the failures, by candidate.
        tried: pairs (group, candidate) that have failed.
        exceeded: the error of the last candidate that was too expensive for the key.
    """

    request: ImageRequest
    candidates: tuple[str, ...]
    deadline: float
    account: Account
    delivery: Delivery
    sent: Callable[[], None] = lambda: None
    failures: dict[str, str] = field(default_factory=dict)
    tried: set[tuple[str, str]] = field(default_factory=set)
    exceeded: ServingError | None = None


class Dispatcher:
    """Runs requests on the generator groups.

    - A candidate that fails or hangs: the next best candidate answers.
    - A group that cannot be reached or ends: another candidate answers, or the same one when the
      group is back. The seeds are fixed, so the images are the same.
    - A candidate that costs more than the ceiling of the key leaves: the next one answers.
    - An ambiguous timeout of a provider, which may have charged, and a refused prompt are final.

    Args:
        fleet: the generator groups.
        on_fallback: called with the failed candidate, the next one and the code of the failure.
    """

    def __init__(
        self, fleet: Fleet, on_fallback: Callable[[str, str, str], None] = lambda *_: None
    ) -> None:
        self._fleet, self._on_fallback = fleet, on_fallback

    async def run(self, work: Work) -> tuple[str, FinishedTask]:
        """Make the images of a request.

        Returns:
            The candidate that made them, and the last event of its task.

        Raises:
            ServingError: the prompt was refused (400), every candidate exceeds the ceiling of the
                key or all queues are full (429), or no candidate could make the images in time
                (503).
        """
        for _ in range(1 + OUTAGES):
            answer = await self._try_all(work)
            if answer is not None:
                work.delivery.finish()
                return answer
            waiting = [c for c in work.candidates if self._may_return(work, c)]
            if not waiting:
                break
            if await self._fleet.wait_until_able(waiting, work.deadline) is None:
                raise timed_out(work.request)
            work.tried = {pair for pair in work.tried if pair[1] not in waiting}
        if not work.failures:
            raise unavailable(self._fleet.unavailable(work.candidates))
        if work.exceeded is not None and set(work.failures.values()) == {CEILING}:
            raise work.exceeded
        raise unanswered(work.failures)

    def _may_return(self, work: Work, candidate: str) -> bool:
        """Return whether a candidate could not be tried, or failed because its group ended."""
        code = work.failures.get(candidate, GroupUnavailable.code)
        return code == GroupUnavailable.code and work.delivery.allows(candidate)

    async def _try_all(self, work: Work) -> tuple[str, FinishedTask] | None:
        """Try every candidate on every group once; None if all of them have failed."""
        last = ""
        for candidate in work.candidates:
            while member := self._fleet.best(candidate, work.tried):
                if not (work.delivery.allows(candidate) and await self._reserve(work, candidate)):
                    break
                if last != candidate and last in work.failures:
                    self._on_fallback(last, candidate, work.failures[last])
                finished = await self._attempt(work, candidate, member)
                if finished is not None:
                    work.failures.pop(candidate, None)
                    return candidate, finished
                last = candidate
            last = candidate if work.failures.get(candidate) == CEILING else last
        return None

    async def _reserve(self, work: Work, candidate: str) -> bool:
        """Reserve the cost of the missing images; False if it exceeds the ceiling of the key."""
        if work.deadline <= time.monotonic():
            raise timed_out(work.request)
        try:
            await work.account.reserve(candidate, len(work.delivery.missing(candidate)))
        except ServingError as error:
            if error.code != CEILING_CODE:
                raise
            work.failures[candidate], work.exceeded = CEILING, error
            return False
        return True

    async def _attempt(self, work: Work, candidate: str, member: Member) -> FinishedTask | None:
        """Try a candidate on a group; None if another candidate or group may answer."""
        name = (member.name, candidate)
        if not self._fleet.breakers.begin(name):
            work.tried.add(name)
            return None
        positions = work.delivery.begin(candidate)
        try:
            with self._fleet.sending(member, candidate, len(positions)):
                work.sent()
                finished = await self._run(work, candidate, member, positions)
        except GenerationFailure as failure:
            self._record(failure, work, candidate, member)
            return None
        except BaseException as error:  # such as a time limit, or a client that disconnects
            self._fleet.breakers.abandon(name)
            if paid := member.is_paid(candidate):  # the provider may charge for them
                work.account.charge(candidate, len(work.delivery.missing(candidate)))
            if isinstance(error, TimeoutError):
                raise timed_out(work.request, paid) from error
            raise
        self._fleet.breakers.succeed(name)
        return finished

    async def _run(
        self, work: Work, candidate: str, member: Member, positions: list[int]
    ) -> FinishedTask:
        request, left = work.request, max(work.deadline - time.monotonic(), 0.001)
        seeds = tuple(request.seeds[i] for i in positions)
        task = ImageTask(
            request.request_id,
            candidate,
            request.prompt,
            seeds,
            request.negative_prompt,
            request.previews,
            left,
        )

        def receive(event: Preview | FinishedImage) -> None:
            if isinstance(event, FinishedImage):
                work.account.charge(candidate)
            work.delivery.receive(event, positions)

        try:
            finished = await run_task(member, task, receive)
            if missing := len(work.delivery.missing(candidate)):
                raise ValueError(f"the task ended without {missing} of its images")
            return finished
        except (GenerationFailure, TimeoutError):
            raise
        except Exception as error:  # such as a response that cannot be read
            _LOG.exception("group %s: unexpected failure", member.name)
            kind = type(error).__name__
            message = f"group {member.name!r}: unexpected {kind}. See the log."
            if member.is_paid(candidate):
                raise TaskTimedOut(message, billed=True) from error
            raise TaskFailed(message) from error

    def _record(
        self, failure: GenerationFailure, work: Work, candidate: str, member: Member
    ) -> None:
        """Record a failure; raise ServingError if no other candidate may answer."""
        name = (member.name, candidate)
        _LOG.warning(
            "request %s: candidate %s failed in group %s (%s): %s",
            work.request.request_id,
            candidate,
            member.name,
            failure.code,
            failure,
        )
        if isinstance(failure, TaskRefused | QueueFull | GroupUnavailable):
            self._fleet.breakers.abandon(name)
        else:
            self._fleet.breakers.fail(name)
        if isinstance(failure, GroupUnavailable):
            member.fail(str(failure))
        if not may_fall_back(failure):
            if not isinstance(failure, TaskRefused):
                work.account.charge(candidate, len(work.delivery.missing(candidate)))
            raise final_error(failure, candidate) from failure
        work.tried.add(name)
        work.failures[candidate] = failure.code
