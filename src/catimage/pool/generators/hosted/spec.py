"""Schema of a generator behind an HTTP API in a pool file."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from catimage.pool.spec import GeneratorSpec


class HostedSpec(GeneratorSpec):
    """A model behind an HTTP API like OpenAI's: ``POST {base_url}/images/generations``.

    Every image is one request. Each candidate has a price in USD per image, and may override
    ``model``, ``version``, ``quality`` and ``options``.

    A hosted model is not deterministic. With ``seeded``, the seed is sent to the server; otherwise
    it only distinguishes the images of one prompt, and the shards on disk are the only copy of an
    image. Servers change the model behind a name: give the name with a date if there is one, or a
    ``version`` of your own, which is part of the images' definition.

    Attributes:
        base_url: URL of the API, without ``/images/generations``.
        model: name of the model in the request.
        version: part of the images' definition; not sent to the server.
        key_variable: environment variable with the API key; None if the server needs no key. A key
            is never written in the file.
        quality: value of the request's field ``quality``; None omits it.
        options: further fields of the request.
        response_format: value of the request's field; None omits it, as OpenAI's own models
            require. Responses may contain base64 data or a URL in either case.
        seeded: whether the server accepts a field ``seed``.
        timeout: seconds per attempt.
        retries: attempts after the first, on connection errors, timeouts and the status codes 408,
            409, 429 and 5xx. They wait as ``Retry-After`` requests, or 0.5 to 8 seconds, doubling,
            with jitter.
        requests_a_minute: rate limit of the account; None for no limit.
        concurrency: number of simultaneous requests.
    """

    overridable: ClassVar[tuple[str, ...]] = ("model", "version", "quality", "options")
    excluded_from_definition: ClassVar[tuple[str, ...]] = (
        "licence",
        "base_url",
        "key_variable",
        "response_format",
        "timeout",
        "retries",
        "requests_a_minute",
        "concurrency",
    )

    kind: Literal["hosted"]
    base_url: str = Field(pattern=r"^https?://[^/\s]+")
    model: str = Field(min_length=1)
    version: str = ""
    key_variable: str | None = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    quality: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    response_format: Literal["b64_json", "url"] | None = None
    seeded: bool = False
    timeout: float = Field(180, gt=0, allow_inf_nan=False)
    retries: int = Field(5, ge=0, le=20)
    requests_a_minute: float | None = Field(None, gt=0, allow_inf_nan=False)
    concurrency: int = Field(4, ge=1, le=64)
