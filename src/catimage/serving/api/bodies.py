"""The request bodies: fields of OpenAI's image API, and those of CATImage."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

LONGEST_PROMPT = 32_000
"""Number of characters of a prompt, as in OpenAI's API."""
MOST_PROMPTS = 256
"""Number of prompts of one request to ``/v1/route``."""
MOST_IMAGES = 10
"""Largest ``n``."""
LARGEST_SEED = 2**32 - 1
"""Largest seed of the first image."""

Prompt = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_PROMPT)]
Size = Annotated[str, StringConstraints(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
Format = Literal["png", "jpeg", "webp"]
Identifier = Annotated[str, StringConstraints(max_length=512)]


class _Body(BaseModel):
    """A request body. The value null means that the field is left out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RoutingFields(_Body):
    """The fields that take part in routing.

    Attributes:
        model: ``auto`` or ``catimage`` for the router, or a candidate to use without the router.
        n: number of images.
        size: ``WIDTHxHEIGHT``, which restricts the choice to candidates of this size, or ``auto``.
        quality: a preset of the budget that the operator configures (``serving.qualities``).
        budget: mean cost per image of this request, in the cost unit.
        lam: ``lambda`` of equation 3, in quality per unit of cost; instead of ``budget``.
        max_latency_ms: milliseconds within which the images are wanted.
        negative_prompt: text that the images are guided away from.
        seed: seed of the first image and of the decision; the next images have the next seeds.
        explain: whether the answer contains the figures of all candidates.
        user: identifier of the end user; logged only as a keyed hash.
        safety_identifier: like ``user``, and preferred to it.
    """

    model: Annotated[str, StringConstraints(max_length=256)] | None = None
    n: int | None = Field(None, ge=1, le=MOST_IMAGES)
    size: Size | None = None
    quality: Quality | None = None
    budget: Number | None = Field(None, gt=0)
    lam: Number | None = Field(None, ge=0, alias="lambda")
    max_latency_ms: Number | None = Field(None, gt=0, le=3_600_000)
    negative_prompt: Annotated[str, StringConstraints(max_length=LONGEST_PROMPT)] | None = None
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED)
    explain: bool | None = None
    user: Identifier | None = None
    safety_identifier: Identifier | None = None


class RouteBody(RoutingFields):
    """The body of ``POST /v1/route``.

    Attributes:
        prompt: one prompt, or a list of prompts.
    """

    prompt: Prompt | Annotated[list[Prompt], Field(min_length=1, max_length=MOST_PROMPTS)]


class JobBody(RoutingFields):
    """The body of ``POST /v1/images/jobs``: that of ``POST /v1/images/generations`` unstreamed.

    Attributes:
        prompt: the prompt.
        output_format: format of the images.
        output_compression: quality of JPEG and WebP images, in percent.
        response_format: ``b64_json``, or ``url`` for signed URLs that expire.
        background: ``auto`` or ``opaque``; no candidate generates transparent images.
        moderation: accepted without effect.
        style: accepted without effect.
        complexity: accepted without effect.
        stream: must be false for jobs.
        partial_images: number of partial images per image; without effect unless ``stream``.
    """

    unsupported: ClassVar[dict[str, str]] = {
        "frame_count": "no candidate generates animations. Omit the field",
        "frame_duration_ms": "no candidate generates animations. Omit the field",
        "svg": "no candidate generates SVG. Omit the field",
    }
    """Documented fields of OpenAI that would change the image, and why they are refused."""

    prompt: Prompt
    output_format: Format | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    response_format: Literal["b64_json", "url"] | None = None
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto", "low"] | None = None
    style: Literal["vivid", "natural"] | None = None
    complexity: Literal["low", "medium", "high"] | None = None
    stream: Annotated[bool, Field(json_schema_extra={"const": False})] | None = None
    partial_images: int | None = Field(None, ge=0, le=3)


class ImagesBody(JobBody):
    """The body of ``POST /v1/images/generations``.

    Attributes:
        stream: whether the response is a stream of server-sent events.
    """

    stream: bool | None = None
