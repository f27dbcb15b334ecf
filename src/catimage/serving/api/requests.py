"""Conversion of request bodies to the messages that the core understands."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TypeVar

from starlette.requests import Request

from catimage.errors import nearest
from catimage.params.serving import ServingParams
from catimage.serving.api.bodies import JobBody, RouteBody, RoutingFields
from catimage.serving.api.errors import abbreviated
from catimage.serving.messages import ApiKey, ImageRequest, JsonObject, ServingError
from catimage.serving.messages import RouteRequest as RoutedPrompt
from catimage.serving.telemetry.logs import conceal

ROUTER_NAMES = ("catimage", "auto")
"""The model names of the router; the name of a candidate selects that candidate instead."""
Body = TypeVar("Body", bound=RoutingFields)
_WITHOUT_EFFECT = ("moderation", "style", "complexity", "user", "safety_identifier")


def request_id(request: Request) -> str:
    """Return the identifier of a request, which the middleware has set."""
    return str(request.scope["state"]["request_id"])


def client_key(request: Request) -> ApiKey | None:
    """Return the client of a request; None if the service has no keys."""
    key: ApiKey | None = request.scope["state"].get("key")
    return key


def route_requests(
    body: RouteBody, identifier: str, key: ApiKey | None, settings: ServingParams
) -> list[RoutedPrompt]:
    """Return one message per prompt of a request to ``/v1/route``.

    Raises:
        ServingError: a field is invalid (400).
    """
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    conceal(*prompts, body.user, body.safety_identifier, body.negative_prompt)
    common, several = _routing(body, key, settings), not isinstance(body.prompt, str)
    return [
        RoutedPrompt(
            prompt=_checked(prompt, f"prompt[{i}]" if several else "prompt"),
            request_id=identifier,
            draw=_draw(body, identifier, i),
            **common,
        )
        for i, prompt in enumerate(prompts)
    ]


def image_request(
    body: JobBody, identifier: str, key: ApiKey | None, settings: ServingParams
) -> ImageRequest:
    """Return the message of a request for images. The seed is drawn if the body has none.

    Raises:
        ServingError: a field is invalid (400).
    """
    conceal(body.prompt, body.user, body.safety_identifier, body.negative_prompt)
    return ImageRequest(
        prompt=_checked(body.prompt),
        request_id=identifier,
        draw=_draw(body, identifier, 0),
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        previews=(body.partial_images or 0) if body.stream else 0,
        stream=bool(body.stream),
        user=body.safety_identifier or body.user or None,
        **_routing(body, key, settings),
    )


def ignored_fields(body: RoutingFields) -> list[str]:
    """Return the names of the fields of the body that have no effect on the images."""
    names = [name for name in _WITHOUT_EFFECT if getattr(body, name, None) is not None]
    if isinstance(body, JobBody) and body.output_compression is not None:
        names += ["output_compression"] if (body.output_format or "png") == "png" else []
    if isinstance(body, JobBody) and body.partial_images and not body.stream:
        names.append("partial_images")
    if body.model not in (None, *ROUTER_NAMES) and body.quality is not None:
        names.append("quality")
    return names


def with_known_model(body: Body, candidates: Sequence[str], aliases: Sequence[str]) -> Body:
    """Return the body with a name of the router or of a candidate in the field ``model``.

    Args:
        body: the body of a request.
        candidates: the names of the candidates.
        aliases: further names of the router (``serving.model_aliases``).

    Raises:
        ServingError: there is no such model (404).
    """
    names = [*ROUTER_NAMES, *candidates]
    if body.model is None or body.model in names:
        return body
    if body.model in aliases:
        return body.model_copy(update={"model": None})
    raise unknown_model(body.model, names)


def unknown_model(name: str, names: list[str]) -> ServingError:
    """Return the error of a request for a model that does not exist."""
    message = f"model: {abbreviated(name)} does not exist{nearest(name[:64], names)}."
    message += f" Use {ROUTER_NAMES[0]!r}, or a model of GET /v1/models."
    return ServingError(message, 404, "model_not_found", "model")


def _routing(body: RoutingFields, key: ApiKey | None, settings: ServingParams) -> JsonObject:
    if body.budget is not None and body.lam is not None:
        raise ServingError("budget, lambda: both are set. Set only one.", param="budget")
    n = body.n or 1
    if n > settings.max_images:
        message = f"n: at most {settings.max_images} images per request (found {n}). Reduce it."
        raise ServingError(message, param="n")
    model = None if body.model in (None, *ROUTER_NAMES) else body.model
    for name, value in (("budget", body.budget), ("lambda", body.lam)):
        if model is not None and value is not None:
            message = f"{name}: has no effect on a candidate. Omit it, or use model 'catimage'."
            raise ServingError(message, param=name)
    size = None if body.size in (None, "auto") else body.size
    return {
        "model": model,
        "n": n,
        "size": None if size is None else tuple(int(part) for part in size.split("x")),
        "budget": body.budget,
        "lam": body.lam,
        "quality": None if model is not None else _preset(body.quality, settings.qualities),
        "max_latency": None if body.max_latency_ms is None else body.max_latency_ms / 1000,
        "negative_prompt": body.negative_prompt,
        "key": key,
    }


def _preset(quality: str | None, presets: Mapping[str, str]) -> str | None:
    """Return the name of the preset; ``xhigh`` and ``max`` are ``high`` unless configured."""
    if quality in ("xhigh", "max") and quality not in presets:
        return "high"
    return None if quality == "auto" and "auto" not in presets else quality


def _checked(prompt: str, name: str = "prompt") -> str:
    if not prompt.strip():
        raise ServingError(f"{name}: only white space. Write a prompt.", param=name)
    return prompt


def _draw(body: RoutingFields, identifier: str, position: int) -> int | str:
    """Return the key of the random draws of the decision for the prompt at ``position``."""
    if body.seed is not None:
        return body.seed + position
    return f"{identifier}:{position}" if position else identifier
