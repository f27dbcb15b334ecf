"""Runs requests for images: admission, decision, dispatch, and the accounts at the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from catimage.serving.dispatch.account import Account, Ledger
from catimage.serving.dispatch.admission import Admission
from catimage.serving.dispatch.delivery import Delivery
from catimage.serving.dispatch.dispatcher import Dispatcher, Work
from catimage.serving.dispatch.routing import LiveRouter
from catimage.serving.messages import (
    ImageRequest,
    Result,
    Routed,
    RouteRequest,
    ServedEvent,
    ServingError,
)
from catimage.serving.tasks import FinishedTask

CLIENT_CLOSED_REQUEST = 499
"""Status in the logs of a request whose client disconnected."""
SETTLING_SECONDS = 300.0
"""A reservation counts for these seconds longer than its request may take, until it is settled."""
_LOG = logging.getLogger(__name__)


class Reports(Protocol):
    """The part of :class:`catimage.serving.telemetry.facade.Telemetry` that is used here."""

    def decision(
        self,
        routed: Routed,
        request: RouteRequest,
        result: Result | None,
        status: int,
        seconds: float | None = None,
    ) -> None:
        """Count and log a request that was routed."""

    def rejection(self, reason: str) -> None:
        """Count a refused request."""


@dataclass(frozen=True)
class Services:
    """What a runner calls.

    Attributes:
        decide: returns the decision of a router for one request.
        ledger: the reserved and settled costs of the keys.
        reports: metrics and logs.
        timeout: seconds after which a request fails.
    """

    decide: Callable[[LiveRouter, ImageRequest], Awaitable[Routed]]
    ledger: Ledger
    reports: Reports
    timeout: float


@dataclass
class _Run:
    """State of a running request; ``expected`` is the cost that the decision led to expect."""

    request: ImageRequest
    live: LiveRouter
    emit: Callable[[ServedEvent | BaseException | None], None]
    pending: ExitStack
    began: float
    routed: Routed | None = None
    account: Account | None = None
    expected: float = 0.0


class RequestRunner:
    """Runs each request in a task of its own, which ends when the client disconnects.

    Args:
        services: what the runner calls.
        admission: refuses requests under load.
        dispatcher: runs tasks on the generator groups.
    """

    def __init__(self, services: Services, admission: Admission, dispatcher: Dispatcher) -> None:
        self._services, self._admission, self._dispatcher = services, admission, dispatcher
        self._requests: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """Number of accepted requests that have not ended."""
        return len(self._requests)

    async def finish(self) -> None:
        """Wait for the accepted requests, and until their costs are settled."""
        while running := self._requests | self._background:
            await asyncio.wait(running)

    async def cancel(self) -> None:
        """Cancel the accepted requests."""
        for task in list(self._requests):
            task.cancel()
        await self.finish()

    async def stream(
        self, request: ImageRequest, live: LiveRouter
    ) -> AsyncGenerator[ServedEvent, None]:
        """Yield the events of a request, its Result last. Closing the iterator cancels the work.

        Args:
            request: the request.
            live: the router that decides, and counts the costs.

        Raises:
            ServingError: the request is refused or failed.
        """
        costs, model = live.facts.costs, request.model or ""
        names = [model] if model in costs else list(costs)
        try:
            self._admission.check(names, request.job)
        except ServingError as error:
            self._services.reports.rejection(error.code)
            raise
        events: asyncio.Queue[ServedEvent | BaseException | None] = asyncio.Queue()
        pending, using = ExitStack(), ExitStack()
        pending.enter_context(self._admission.accepted(request.n))
        using.enter_context(live.in_use())
        run = _Run(request, live, events.put_nowait, pending, time.monotonic())
        task = _kept(self._requests, self._run(run))

        def ended(_: asyncio.Task[None]) -> None:
            pending.close()
            using.close()
            run.emit(_stopped())  # nobody reads it unless the task was cancelled before it began

        task.add_done_callback(ended)
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            task.cancel()

    async def _run(self, run: _Run) -> None:
        result: Result | None = None
        error: BaseException | None = None
        status = 200
        try:
            result = await self._answer(run)
        except asyncio.CancelledError:
            status = CLIENT_CLOSED_REQUEST
            error = _stopped()
            raise
        except ServingError as refused:
            status, error = refused.status, refused
            if status == 429:
                self._services.reports.rejection(refused.code)
        except Exception as unexpected:  # reported to the client as status 500, and logged there
            status, error = 500, unexpected
        finally:
            run.emit(error if error is not None else result)
            run.emit(None)
            _kept(self._background, self._close(run, result, status))

    async def _answer(self, run: _Run) -> Result:
        request, timeout = run.request, self._services.timeout
        run.routed = routed = await self._services.decide(run.live, request)
        if request.stream:
            run.emit(routed)
        candidates = self._admission.order(routed.ranked, request.job)
        run.account = Account(
            self._services.ledger, request.key, routed.costs, timeout + SETTLING_SECONDS
        )
        work = Work(
            request,
            candidates,
            run.began + timeout,
            run.account,
            Delivery(request.n, run.emit, request.stream),
            run.pending.close,
        )
        run.expected = request.n * routed.costs[candidates[0]]
        run.live.record(routed, run.expected, request.n)
        if candidates[0] != routed.candidate:
            work.failures[routed.candidate] = "overloaded"
        candidate, finished = await self._dispatcher.run(work)
        return self._result(run, work, candidate, finished)

    def _result(self, run: _Run, work: Work, candidate: str, finished: FinishedTask) -> Result:
        assert run.routed is not None
        facts = run.live.facts
        cost, reference = work.account.cost, facts.reference
        return Result(
            candidate=candidate,
            routed=run.routed,
            cost=cost,
            saved=run.request.n * facts.costs[reference] - cost,
            reference=reference,
            seconds={
                "route": run.routed.seconds,
                "queue": finished.queue_seconds,
                "generate": finished.compute_seconds,
                "total": time.monotonic() - run.began,
            },
            fallbacks=dict(work.failures),
            batch_size=finished.batch_size,
        )

    async def _close(self, run: _Run, result: Result | None, status: int) -> None:
        """Record the cost and log the request, while the answer is on its way to the client."""
        seconds, reports = time.monotonic() - run.began, self._services.reports
        if run.routed is None:
            return
        if run.account is not None:
            _kept(self._background, run.account.settle())
            count = sum(run.account.images.values())  # images that were not made do not count
            images = 0 if result is not None else min(count - run.request.n, 0)
            if images or run.account.cost != run.expected:
                run.live.record(run.routed, run.account.cost - run.expected, images)
        reports.decision(run.routed, run.request, result, status, seconds)


def _stopped() -> ServingError:
    message = "service: shutting down. Try again later."
    return ServingError(message, 503, "draining", retry_after=5.0)


def _kept(
    tasks: set[asyncio.Task[None]], coroutine: Coroutine[Any, Any, None]
) -> asyncio.Task[None]:
    """Start a task, and keep a reference to it until it ends."""
    task = asyncio.create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
