"""The core of the router process: decisions, admission, dispatch and jobs, without HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from catimage.params.serving import ServingParams
from catimage.serving.decisions.versions import Versions
from catimage.serving.dispatch.admission import Admission
from catimage.serving.dispatch.dispatcher import Dispatcher
from catimage.serving.dispatch.documents import fleet_document, model_documents
from catimage.serving.dispatch.fleet import Fleet
from catimage.serving.dispatch.gauges import update_gauges
from catimage.serving.dispatch.holder import RouterHolder
from catimage.serving.dispatch.routing import LiveRouter
from catimage.serving.dispatch.runner import RequestRunner, Services
from catimage.serving.generator.client import Group
from catimage.serving.jobs import JobRunner
from catimage.serving.messages import (
    ImageRequest,
    JsonObject,
    Routed,
    RouteRequest,
    ServedEvent,
    ServingError,
)
from catimage.serving.state.maintenance import purge_forever
from catimage.serving.state.store import State
from catimage.serving.telemetry.facade import Telemetry
from catimage.workspace import Workspace

_LOG = logging.getLogger(__name__)


class Core:
    """Answers requests with a router and generator groups. All methods raise ServingError only.

    The router is loaded in a thread after :meth:`start`; until then, requests are refused with
    status 503. If it cannot be loaded, the fallback candidate answers (``serving.fallback``).

    Args:
        workspace: the workspace with ``params.yaml`` and ``models/router``.
        settings: the section ``serving`` of the parameters, with the environment's overrides.
        groups: the clients of the generator groups, by name.
        state: what the replicas share.
        telemetry: metrics and logs of the process.
        replica: identifier of this process, which no other running replica has.

    Attributes:
        fleet: the generator groups.
        jobs: requests that are answered later; :meth:`JobRunner.use` sets how.
        draining: whether new requests are refused.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: ServingParams,
        groups: Mapping[str, Group],
        state: State,
        telemetry: Telemetry | None = None,
        replica: str = "",
    ) -> None:
        self.telemetry = telemetry or Telemetry()
        self.fleet = Fleet(groups)
        self._admission = Admission(self.fleet, settings.max_queue_seconds)
        dispatcher = Dispatcher(self.fleet, self.telemetry.fallback)
        services = Services(self._decide, state.spending, self.telemetry, settings.timeout)
        self._runner = RequestRunner(services, self._admission, dispatcher)
        self.replica = replica or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._router = RouterHolder(workspace, settings, state, self.telemetry, self.replica)
        self._stopping: asyncio.Task[None] | None = None
        self._gauges: asyncio.Task[None] | None = None
        self._purging: asyncio.Task[None] | None = None
        self._state = state
        self.draining = False
        self.jobs = JobRunner(state.jobs, self.replica, self._wait_of_jobs)

    async def start(self) -> None:
        """Start to load the router and to poll the groups; returns at once."""
        await self.fleet.start()
        await self.jobs.start()
        self._router.start()
        self._purging = asyncio.create_task(purge_forever(self._state))
        self._gauges = asyncio.create_task(
            update_gauges(
                self.telemetry,
                self.fleet,
                lambda: self._router.live,
                self._admission.device_wait,
            )
        )

    async def close(self) -> None:
        """Cancel all requests, and close the clients of the groups."""
        self.draining = True
        for task in (self._gauges, self._purging):
            if task is not None:
                task.cancel()
        await self.jobs.close()
        await self._runner.cancel()
        await self.fleet.close()
        await self._router.close()

    def drain(self) -> None:
        """Refuse new requests; accepted requests continue, and jobs return to the queue."""
        if not self.draining:
            self.draining = True
            self._stopping = asyncio.create_task(self.jobs.close())

    async def drained(self) -> None:
        """Wait until the accepted requests have ended."""
        if self._stopping is not None:
            await self._stopping
        await self._runner.finish()

    @property
    def ready(self) -> bool:
        """Whether requests for images can be answered."""
        return not self.draining and self._router.live is not None and self.fleet.ready

    def status(self) -> JsonObject:
        """Return the state of the router and of the generator groups."""
        live = self._router.live
        return {
            "draining": self.draining,
            "router": {
                "ready": live is not None,
                "version": live.loaded.version if live else None,
                "problem": self._router.problem or None,
            },
            "groups": fleet_document(self.fleet),
            "requests": self._runner.running,
        }

    async def route(self, requests: Sequence[RouteRequest]) -> list[Routed]:
        """Return one decision per request.

        Raises:
            ServingError: a request is invalid (400), or the router is not ready (503).
        """
        return await self._accepting().decide(requests, self.fleet, self._admission.device_wait())

    def check(self, request: ImageRequest) -> None:
        """Check a request that is answered later; raises ServingError if it never can be (400)."""
        self._accepting().check(request)

    async def generate(self, request: ImageRequest) -> AsyncGenerator[ServedEvent, None]:
        """Yield the previews and images of a request, and its Result last.

        Closing the iterator cancels the work. The image with index i has the seed ``seed + i``.

        Raises:
            ServingError: the request is invalid (400), the service is overloaded or a ceiling is
                reached (429), or no candidate can make the images (503).
        """
        try:
            live = self._accepting()
            if not self.fleet.ready:
                message = "service: no generator is ready. Try again later."
                raise ServingError(message, 503, "starting", retry_after=2.0)
        except ServingError as error:
            self.telemetry.rejection(error.code)
            raise
        async with aclosing(self._runner.stream(request, live)) as events:
            async for event in events:
                yield event

    def models(self) -> list[JsonObject]:
        """Return the candidates: ``id``, ``cost``, ``cost_unit``, ``size`` and further keys.

        Raises:
            ServingError: the router is not ready (503).
        """
        return model_documents(self._router.require().loaded, self.fleet)

    def router_document(self) -> JsonObject:
        """Return the version, the origin, the budgets and the curve of the router.

        Raises:
            ServingError: the router is not ready (503).
        """
        live = self._router.require()
        document = live.document(self.fleet, self._admission.device_wait())
        return document | {"candidates": model_documents(live.loaded, self.fleet)}

    @property
    def labels(self) -> JsonObject:
        """``cost_unit``, ``metric``, ``estimator`` and ``candidates``, for answers.

        Raises:
            ServingError: the router is not ready (503).
        """
        loaded = self._router.require().loaded
        router = loaded.champion.router if loaded.champion else None
        return {
            "cost_unit": loaded.facts.cost_unit,
            "candidates": list(loaded.facts.costs),
            "metric": router.metric if router else None,
            "estimator": router.estimator_name if router else None,
        }

    @property
    def versions(self) -> Versions:
        """The versions of the router in use; without a champion before one is loaded."""
        return self._router.live.loaded.versions if self._router.live else Versions()

    async def use(self, versions: Versions, digest: str) -> None:
        """Decide the requests that arrive from now on with other versions of the router.

        Args:
            versions: the versions, with a champion, all of them warmed up.
            digest: digest of the folder of the champion.

        Raises:
            InputError: the pool lacks a candidate of the champion, or a budget of the settings is
                invalid for one of the versions; the versions in use stay.
            ServingError: the first router is still being loaded (503).
        """
        await self._router.use(versions, digest)

    def _accepting(self) -> LiveRouter:
        """Return the router for a new request; raise ServingError during a shutdown (503)."""
        if self.draining:
            raise ServingError(
                "service: shutting down. Try again later.", 503, "draining", retry_after=5.0
            )
        return self._router.require()

    def _wait_of_jobs(self) -> float | None:
        return self._admission.device_wait() if self.ready else None

    async def _decide(self, live: LiveRouter, request: ImageRequest) -> Routed:
        """Decide a request that was accepted, also during a shutdown."""
        wait = self._admission.device_wait(request.n)
        return (await live.decide([request], self.fleet, wait))[0]
