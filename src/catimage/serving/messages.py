"""The values that the parts of the router exchange: requests, decisions, results and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from catimage.errors import InputError
from catimage.serving.tasks import FinishedImage, Preview


class ServingError(InputError):
    """A request that cannot be answered, with the HTTP status of the response.

    Attributes:
        message: a message of the form ``<field>: <problem>. <fix>.``
        status: the HTTP status: 400, 401, 404, 408, 413, 422, 429 or 503.
        code: a short identifier, such as ``model_not_found``.
        param: the field of the request that is invalid; None if the error is not about a field.
        retry_after: seconds after which the client may try again; None if the header
            ``Retry-After`` is left out.
        retryable: whether the same request may succeed later. If not, the response has the header
            ``x-should-retry: false``.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        code: str = "invalid_value",
        param: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.param = message, status, code, param
        self.retry_after = retry_after
        self.retryable = status in (408, 429, 503) if retryable is None else retryable


@dataclass(frozen=True)
class ApiKey:
    """A client of the service, identified by its API key.

    Attributes:
        key_id: public identifier of the key, which logs and metrics may contain.
        name: name that the operator gave the key.
        budget: limit of the mean cost per image of the key's requests; None for the budget of the
            service.
        ceiling: largest total cost per calendar month (UTC); None for no limit.
        rate_limit: number of requests per unit of time, in the notation of the package ``limits``,
            such as ``60/minute``; None for the default of the service.
    """

    key_id: str
    name: str
    budget: float | None = None
    ceiling: float | None = None
    rate_limit: str | None = None


@dataclass(frozen=True)
class RouteRequest:
    """One prompt to be routed.

    Attributes:
        prompt: the prompt.
        request_id: identifier of the request in logs and responses.
        draw: key of the random draws of the decision, which makes it repeatable.
        model: name of a candidate that is used without routing; None for the router.
        n: number of images.
        size: (width, height) in pixels; None for any size.
        budget: mean cost per image of this request; None for a budget that the service keeps.
        lam: lambda of this request, in quality per unit of cost; None for the live lambda.
        quality: name of a preset of ``serving.qualities``; None for ``auto``.
        max_latency: seconds within which the images are wanted; None for no limit.
        negative_prompt: text that the images are guided away from; None for that of the candidate.
        key: the client; None if the service has no keys.
    """

    prompt: str
    request_id: str
    draw: int | str
    model: str | None = None
    n: int = 1
    size: tuple[int, int] | None = None
    budget: float | None = None
    lam: float | None = None
    quality: str | None = None
    max_latency: float | None = None
    negative_prompt: str | None = None
    key: ApiKey | None = None


@dataclass(frozen=True)
class ImageRequest(RouteRequest):
    """A request for images.

    Attributes:
        seed: seed of the first image; the next images have the next seeds. It is drawn before the
            first attempt, so that a retry gives the same images.
        previews: number of partial images per image.
        stream: whether finished images are sent before the others are finished. If not, another
            candidate can still make all images when one fails.
        user: the field ``user`` or ``safety_identifier``; logged only as a keyed hash.
        job: whether the request is a running job, which waited for its turn: it is not refused
            because of the load.
    """

    seed: int = 0
    previews: int = 0
    stream: bool = False
    user: str | None = None
    job: bool = False

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the images."""
        return tuple(range(self.seed, self.seed + self.n))


@dataclass(frozen=True)
class Routed:
    """The decision for one request.

    Attributes:
        candidate: the selected candidate.
        ranked: the candidates that may answer, the selected one first, then the next best.
        qualities: predicted quality of every candidate, by name; empty if the router is not loaded.
        costs: cost of one image of every candidate, by name.
        propensities: probability with which each candidate was selected, by name; the sum is 1.
        excluded: why a candidate was not considered, by name: ``size``, ``latency``,
            ``negative_prompt``, ``unavailable`` or ``ceiling``.
        lam: lambda of equation 3 for this request; None if the candidate was requested by name.
        pressure: price of one second of device time, in quality, that was added under load.
        scope: the budget that the cost counts against, such as ``service``, ``key:ID`` or
            ``quality:low``; None if no live budget applies.
        router_version: version of the router that decided, or ``fallback``.
        shadow: candidate that the challenger would have selected; None without a challenger.
        tokens: number of tokens of the prompt that the text encoder read.
        truncated: whether the prompt was cut at the context of the text encoder.
        embedding: embedding of the prompt for the decision log (float16); None if not available.
        seconds: time of the decision.
    """

    candidate: str
    ranked: tuple[str, ...]
    qualities: Mapping[str, float]
    costs: Mapping[str, float]
    propensities: Mapping[str, float]
    excluded: Mapping[str, str] = field(default_factory=dict)
    lam: float | None = None
    pressure: float = 0.0
    scope: str | None = None
    router_version: str = ""
    shadow: str | None = None
    tokens: int = 0
    truncated: bool = False
    embedding: np.ndarray | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """The last event of a request: the summary of all that was done for it.

    Attributes:
        candidate: the candidate that made the images.
        routed: the decision.
        cost: total cost of the images.
        saved: cost of the same images with the reference candidate, minus ``cost``.
        reference: name of the reference candidate.
        seconds: time of each stage: ``route``, ``queue``, ``generate``, ``total``.
        fallbacks: candidates that failed before ``candidate``, with the reasons.
        batch_size: number of images of the largest batch.
    """

    candidate: str
    routed: Routed
    cost: float
    saved: float
    reference: str
    seconds: Mapping[str, float]
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    batch_size: int = 1


ServedEvent = Routed | Preview | FinishedImage | Result
"""``Routed`` is the first event of a request with ``stream``; other requests do not have it."""


JsonObject = dict[str, Any]
