"""The errors of requests that no candidate has answered."""

from __future__ import annotations

from collections.abc import Mapping

from catimage.serving.generator.failures import (
    GenerationFailure,
    PromptModerated,
    QueueFull,
    TaskRefused,
)
from catimage.serving.messages import ImageRequest, ServingError


def unavailable(reasons: dict[str, str]) -> ServingError:
    """Return the error for candidates that no group can make now.

    Args:
        reasons: the reasons by candidate.
    """
    listed = "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items())[:5])
    return ServingError(
        f"service: no generator is available ({listed}). Try again later.",
        503,
        "unavailable",
        retry_after=2.0,
    )


def unanswered(failures: Mapping[str, str]) -> ServingError:
    """Return the error of a request that no candidate could answer.

    Args:
        failures: the code of the failure of each candidate.
    """
    if set(failures.values()) == {QueueFull.code}:
        message = "service: all queues are full. Try again later."
        return ServingError(message, 429, "overloaded", retry_after=2.0)
    failed = ", ".join(f"{name}: {code}" for name, code in failures.items())
    return ServingError(
        f"service: no candidate could make the images ({failed}). Try again later.",
        503,
        "generation_failed",
        retry_after=2.0,
    )


def timed_out(request: ImageRequest, paid: bool = False) -> ServingError:
    """Return the error for a request whose time limit has passed.

    Args:
        request: the request.
        paid: whether a provider may have charged for the images, so that clients do not repeat the
            request by themselves.
    """
    return ServingError(
        f"service: the {request.n} images were not finished in time. Try again later, or request"
        " fewer images.",
        503,
        "timeout",
        retry_after=None if paid else 5.0,
        retryable=not paid,
    )


def final_error(failure: GenerationFailure, candidate: str) -> ServingError:
    """Return the error for a failure after which no other candidate may answer."""
    if isinstance(failure, PromptModerated):
        return ServingError(f"prompt: {failure}", 400, "moderation_blocked", "prompt")
    if isinstance(failure, TaskRefused):
        return ServingError(str(failure))
    return ServingError(
        f"model: {candidate!r} did not answer in time, and its provider may have charged for the"
        " images. Check its account before you send the request again.",
        503,
        "upstream_timeout",
        retryable=False,
    )
