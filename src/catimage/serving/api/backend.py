"""What the HTTP application calls: the core, the state, the rate limits and the telemetry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from catimage.params.serving import ServingParams
from catimage.serving.limits import RateLimits
from catimage.serving.messages import (
    ImageRequest,
    JsonObject,
    Routed,
    RouteRequest,
    ServedEvent,
)
from catimage.serving.state.jobs import JobRecord
from catimage.serving.state.store import State
from catimage.serving.telemetry.facade import Telemetry


class JobQueue(Protocol):
    """Runs requests for images that are stored in the state."""

    def use(self, answer: Callable[[ImageRequest, JsonObject], Awaitable[JsonObject]]) -> None:
        """Set the function that answers jobs.

        Args:
            answer: generates the images of a job and returns the document that is its result. It
                receives the request and the options of the answer.
        """

    async def submit(self, request: ImageRequest, answer: JsonObject) -> JobRecord:
        """Store a request.

        Args:
            request: the request.
            answer: the options of the answer.
        """


class ImageService(Protocol):
    """The core of the service (:mod:`catimage.serving.core`). It raises ServingError only."""

    @property
    def jobs(self) -> JobQueue:
        """The requests that are answered later."""

    @property
    def labels(self) -> JsonObject:
        """``cost_unit``, ``metric``, ``estimator`` and ``candidates`` (names) of the router."""

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""

    def status(self) -> JsonObject:
        """Return the state of the router and of the generator services."""

    async def start(self) -> None:
        """Start to load the router, and return at once."""

    async def close(self) -> None:
        """Stop all work."""

    def drain(self) -> object:
        """Refuse new requests; accepted requests continue."""

    async def route(self, requests: Sequence[RouteRequest]) -> list[Routed]:
        """Return one decision per request."""

    def check(self, request: ImageRequest) -> None:
        """Raise ServingError if a request can never be answered (400)."""

    def generate(self, request: ImageRequest) -> AsyncIterator[ServedEvent]:
        """Yield the previews and images of a request, and its Result last."""

    def models(self) -> list[JsonObject]:
        """Return the candidates: ``id``, ``cost``, ``cost_unit``, ``size`` and ``created``."""

    def router_document(self) -> JsonObject:
        """Return the answer of ``GET /v1/router``."""


@dataclass(frozen=True)
class Backend:
    """All that the HTTP application calls.

    Attributes:
        core: the core of the service.
        state: what the replicas share: keys, jobs and stored images.
        telemetry: metrics and logs.
        settings: the section ``serving`` of the parameters.
        secret: key of the signatures of image URLs.
        limiter: the rate limits; None for no limits.
    """

    core: ImageService
    state: State
    telemetry: Telemetry
    settings: ServingParams
    secret: bytes = field(repr=False)
    limiter: RateLimits | None = None
