"""Schema of a hosted generator in a pool file."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from catimage.pool.spec import GeneratorSpec


class HostedSpec(GeneratorSpec):
    """A model behind an HTTP API like OpenAI's: ``POST {base_url}/images/generations``.

    Every image is one request. Each candidate has a price in USD per image, and may override
    ``model``, ``version``, ``quality`` and ``options``.

    A hosted model is not deterministic. With ``seeded``, the seed is sent to the server. Otherwise
    the seed only numbers the images of a prompt, and an image in a shard cannot be generated again.
    A provider may change the model behind a name. Use a model name with a date if there is one, or
    change ``version`` after such a change: the images are then generated again.

    Attributes:
        base_url: URL of the API, without ``/images/generations``.
        model: name of the model in the request.
        version: any text that is part of the definition of the images; not sent to the server.
        key_variable: name of the environment variable that contains the API key; None if the server
            needs no key. The pool file never contains a key.
        quality: value of the request's field ``quality``; None omits it.
        options: further fields of the request.
        omit: fields that the API does not accept, of ``model``, ``n`` and ``size``. ``size`` is
            then the size of all images that the model generates.
        response_format: value of the request's field ``response_format``; None omits it, as
            OpenAI's own models require. In either case, the response may contain base64 data or a
            URL.
        seeded: whether the server accepts the field ``seed``.
        timeout: time limit in seconds per attempt.
        retries: number of attempts after the first one, for connection errors, timeouts and the
            status codes 408, 409, 429 and 5xx. The delay before a retry is that of the header
            ``Retry-After``, or else 0.5 to 8 seconds (exponential backoff with jitter).
        requests_a_minute: rate limit of the account in requests per minute; None for no limit.
        concurrency: number of simultaneous requests.
    """

    overridable: ClassVar[tuple[str, ...]] = ("model", "version", "quality", "options")
    excluded_from_definition: ClassVar[tuple[str, ...]] = (
        "licence",
        "base_url",
        "key_variable",
        "response_format",
        "omit",
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
    omit: list[Literal["model", "n", "size"]] = Field(default_factory=list)
    response_format: Literal["b64_json", "url"] | None = None
    seeded: bool = False
    timeout: float = Field(180, gt=0, allow_inf_nan=False)
    retries: int = Field(5, ge=0, le=20)
    requests_a_minute: float | None = Field(None, gt=0, allow_inf_nan=False)
    concurrency: int = Field(4, ge=1, le=64)

    @field_validator("size", mode="before")
    @classmethod
    def _size_is_known(cls, size: Any) -> Any:
        if size is None:
            raise ValueError(
                "give the size of the model's images, and add 'omit: [size]' if the API does not"
                " accept the field"
            )
        return size
