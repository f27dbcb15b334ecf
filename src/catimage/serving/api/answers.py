"""The documents of answers with images: OpenAI's fields, and the object ``catimage``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Self

import numpy as np

from catimage.serving.api.bodies import JobBody
from catimage.serving.api.encoding import ImageFormat
from catimage.serving.api.requests import ignored_fields
from catimage.serving.messages import ImageRequest, JsonObject, Result, Routed
from catimage.serving.tasks import FinishedImage

_QUALITIES = {"standard": "medium", "hd": "high"}
"""The values of ``quality`` in answers for those that the type of OpenAI's clients lacks."""


@dataclass(frozen=True)
class AnswerOptions:
    """The options of an answer, from the fields of its request.

    Attributes:
        format: format of the images.
        compression: quality of JPEG and WebP in percent.
        urls: whether the answer contains URLs instead of base64.
        explain: whether the answer contains the figures of all candidates.
        quality: the field ``quality``.
        user: the effective identifier of the end user.
        ignored: names of the fields without effect.
    """

    format: str = "png"
    compression: int = 100
    urls: bool = False
    explain: bool = False
    quality: str = "auto"
    user: str | None = None
    ignored: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, body: JobBody) -> Self:
        """Return the options of a request body."""
        quality = body.quality or "auto"
        return cls(
            format=body.output_format or "png",
            compression=100 if body.output_compression is None else body.output_compression,
            urls=body.response_format == "url",
            explain=bool(body.explain),
            quality=_QUALITIES.get(quality, quality),
            user=body.safety_identifier or body.user or None,
            ignored=ignored_fields(body),
        )

    def document(self) -> JsonObject:
        """Return the options as JSON, for the row of a job."""
        return asdict(self)

    @property
    def image_format(self) -> ImageFormat:
        """The format of the images."""
        return ImageFormat(self.format, self.compression)  # type: ignore[arg-type]


def usage_document(routed: Routed) -> JsonObject:
    """Return OpenAI's ``usage``: the tokens of the prompt that the text encoder read.

    Diffusion models generate no tokens, so the number of output tokens is 0.
    """
    tokens = int(routed.tokens)
    return {
        "input_tokens": tokens,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": tokens},
        "output_tokens": 0,
        "output_tokens_details": {"image_tokens": 0, "text_tokens": 0},
        "total_tokens": tokens,
    }


def explanation(routed: Routed) -> JsonObject:
    """Return the figures of all candidates that led to a decision (``explain``)."""
    return {
        "qualities": dict(routed.qualities),
        "costs": dict(routed.costs),
        "propensities": dict(routed.propensities),
        "excluded": dict(routed.excluded),
        "ranked": list(routed.ranked),
        "pressure": routed.pressure,
        "scope": routed.scope,
        "shadow": routed.shadow,
    }


def catimage_document(
    request: ImageRequest,
    result: Result,
    flagged: Sequence[JsonObject],
    options: AnswerOptions,
    cost_unit: str,
) -> JsonObject:
    """Return the object ``catimage`` of an answer.

    Args:
        request: the request.
        result: the summary of the work.
        flagged: ``index`` and ``reason`` of each flagged image.
        options: the options of the answer.
        cost_unit: unit of the costs.
    """
    routed = result.routed
    document = {
        "request_id": request.request_id,
        "candidate": result.candidate,
        "cost": result.cost,
        "cost_unit": cost_unit,
        "saved": result.saved,
        "reference": result.reference,
        "lambda": routed.lam,
        "predicted_quality": routed.qualities.get(result.candidate),
        "seed": request.seed,
        "seconds": dict(result.seconds),
        "router_version": routed.router_version,
        "tokens": int(routed.tokens),
        "truncated": routed.truncated,
        "fallbacks": dict(result.fallbacks),
        "batch_size": result.batch_size,
        "flagged": list(flagged),
        "ignored_fields": options.ignored,
    }
    return document | (explanation(routed) if options.explain else {})


def images_document(
    items: Sequence[JsonObject], size: str | None, options: AnswerOptions, summary: JsonObject
) -> JsonObject:
    """Return OpenAI's ImagesResponse.

    Args:
        items: one object per image, with ``b64_json``, ``url`` or ``flagged``.
        size: ``WIDTHxHEIGHT`` of the images.
        options: the options of the answer.
        summary: ``usage`` and ``catimage``.
    """
    document: JsonObject = {
        "created": int(time.time()),
        "background": "opaque",
        "data": list(items),
        "output_format": options.format,
        "size": size,
    }
    if options.quality != "auto":
        document["quality"] = options.quality
    if options.user is not None:
        document["safety_identifier"] = options.user
    return document | summary


def size_text(pixels: np.ndarray) -> str:
    """Return ``WIDTHxHEIGHT`` of an image of shape (height, width, 3)."""
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def flagged_images(images: Sequence[FinishedImage]) -> list[JsonObject]:
    """Return ``index`` and ``reason`` of each image that the safety checker flagged."""
    return [
        {"index": i.index, "reason": i.flagged or "flagged"} for i in images if i.pixels is None
    ]
