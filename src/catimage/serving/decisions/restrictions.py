"""The candidates that may answer a request, and the errors if there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from catimage.serving.decisions.conditions import Conditions
from catimage.serving.messages import RouteRequest, ServingError

UNAVAILABLE_RETRY_SECONDS = 5.0
"""Seconds after which a request may be repeated if no suitable candidate is available."""

Test = Callable[[str], bool]


def allowed_candidates(
    request: RouteRequest,
    candidates: Sequence[str],
    costs: Mapping[str, float],
    conditions: Conditions,
) -> tuple[list[str], dict[str, str]]:
    """Return the candidates that may answer a request.

    The restrictions apply in this order: size, negative prompt, availability, ceiling of the API
    key, latency. A candidate is excluded for the first one that it does not meet.

    Args:
        request: the request.
        candidates: names of the candidates to choose from.
        costs: cost of one image, by candidate.
        conditions: the state of the candidates.

    Returns:
        The names of the allowed candidates, in the order of ``candidates``, and the reason why each
        other candidate is excluded (:attr:`catimage.serving.messages.Routed.excluded`).

    Raises:
        ServingError: no candidate is allowed: 400 if none can make such images, 503 if those that
            can are unavailable, 429 if they exceed the ceiling or the requested latency.
    """
    allowed, excluded = list(candidates), dict[str, str]()
    for reason, test in _tests(request, costs, conditions):
        kept = [name for name in allowed if test(name)]
        if not kept:
            raise _ERRORS[reason](request, allowed, conditions)
        excluded |= {name: reason for name in allowed if name not in kept}
        allowed = kept
    return allowed, excluded


def _tests(
    request: RouteRequest, costs: Mapping[str, float], conditions: Conditions
) -> list[tuple[str, Test]]:
    """Return the restrictions that apply to a request: the reason of an exclusion, and the test
    that an allowed candidate passes.
    """
    tests: list[tuple[str, Test]] = []
    if (size := request.size) is not None:
        tests.append(("size", lambda name: conditions.sizes.get(name, size) == size))
    if request.negative_prompt and (negative := conditions.negative_prompts) is not None:
        tests.append(("negative_prompt", lambda name: name in negative))
    if conditions.unavailable:
        tests.append(("unavailable", lambda name: name not in conditions.unavailable))
    remaining = conditions.remaining.get(request.key.key_id) if request.key else None
    if remaining is not None:
        left = remaining * (1 + 1e-9)
        tests.append(("ceiling", lambda name: request.n * costs.get(name, 0.0) <= left))
    if (limit := request.max_latency) is not None:
        tests.append(("latency", lambda name: conditions.latency(name, request.n) <= limit))
    return tests


def _size_error(
    request: RouteRequest, candidates: Sequence[str], conditions: Conditions
) -> ServingError:
    width, height = request.size or (0, 0)
    sizes = sorted({conditions.sizes[name] for name in candidates})
    known = " or ".join(f"{w}x{h}" for w, h in sizes)
    subject = f"{candidates[0]} makes no" if request.model else "no candidate makes"
    return ServingError(
        f"size: {subject} images of {width}x{height} pixels. Use {known}.", param="size"
    )


def _negative_prompt_error(
    request: RouteRequest, candidates: Sequence[str], conditions: Conditions
) -> ServingError:
    known = sorted(conditions.negative_prompts or ())
    fix = f"Use one of {', '.join(known)}, or remove it" if known else "Remove it"
    return ServingError(
        f"negative_prompt: {_subject(candidates)} no negative prompt. {fix}.",
        param="negative_prompt",
    )


def _subject(candidates: Sequence[str]) -> str:
    return f"{candidates[0]} takes" if len(candidates) == 1 else "the suitable candidates take"


def _unavailable_error(
    request: RouteRequest, candidates: Sequence[str], conditions: Conditions
) -> ServingError:
    reasons = sorted({conditions.unavailable[name] for name in candidates})
    names = ", ".join(candidates)
    return ServingError(
        f"model: {names} cannot be used now ({'; '.join(reasons)}). Try again later.",
        status=503,
        code="unavailable",
        param="model",
        retry_after=UNAVAILABLE_RETRY_SECONDS,
    )


def _ceiling_error(
    request: RouteRequest, candidates: Sequence[str], conditions: Conditions
) -> ServingError:
    return ServingError(
        "key: the ceiling of this API key leaves too little for the request. Ask the"
        " operator of the service to raise the limit.",
        status=429,
        code="insufficient_quota",
        retryable=False,
    )


def _latency_error(
    request: RouteRequest, candidates: Sequence[str], conditions: Conditions
) -> ServingError:
    limit = request.max_latency or 0.0
    fastest = min(conditions.generation_seconds(name, request.n) for name in candidates)
    if fastest > limit:
        return ServingError(
            f"max_latency_ms: {1000 * limit:g} ms are too short; the fastest suitable candidate"
            f" needs {1000 * fastest:.0f} ms. Raise it.",
            param="max_latency_ms",
        )
    soonest = min(conditions.latency(name, request.n) for name in candidates)
    return ServingError(
        f"max_latency_ms: the earliest answer takes {1000 * soonest:.0f} ms, because other requests"
        " wait. Raise it, or try again later.",
        status=429,
        code="overloaded",
        param="max_latency_ms",
        retry_after=max(soonest - limit, 1.0),
    )


_ERRORS = {
    "size": _size_error,
    "negative_prompt": _negative_prompt_error,
    "unavailable": _unavailable_error,
    "ceiling": _ceiling_error,
    "latency": _latency_error,
}
