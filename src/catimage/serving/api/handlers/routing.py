"""``POST /v1/route``, ``GET /v1/router`` and ``GET /v1/models``."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from catimage.serving.api.answers import explanation
from catimage.serving.api.backend import Backend
from catimage.serving.api.bodies import RouteBody
from catimage.serving.api.generation import unless_disconnected
from catimage.serving.api.json_response import json_response
from catimage.serving.api.parsing import parse_body
from catimage.serving.api.requests import (
    ROUTER_NAMES,
    client_key,
    ignored_fields,
    request_id,
    route_requests,
    unknown_model,
    with_known_model,
)
from catimage.serving.api.runtime import runtime_of
from catimage.serving.messages import JsonObject, Routed, RouteRequest


async def post_route(request: Request) -> Response:
    """Handle ``POST /v1/route``: one decision, or a list for a list of prompts."""
    backend = runtime_of(request).require()
    body = await parse_body(request, RouteBody)
    candidates, aliases = backend.core.labels["candidates"], backend.settings.model_aliases
    body = with_known_model(body, candidates, aliases)
    messages = route_requests(body, request_id(request), client_key(request), backend.settings)
    decisions = await unless_disconnected(request.receive, backend.core.route(messages))
    labels, ignored = backend.core.labels, ignored_fields(body)
    pairs = zip(messages, decisions, strict=True)
    answers = [_decision(m, d, labels, ignored, bool(body.explain)) for m, d in pairs]
    one = isinstance(body.prompt, str)
    return json_response(answers[0] if one else {"object": "list", "data": answers})


def _decision(
    message: RouteRequest, routed: Routed, labels: JsonObject, ignored: list[str], explain: bool
) -> JsonObject:
    """Return the answer for one prompt."""
    qualities = routed.qualities
    candidates = [
        {"candidate": name, "cost": cost, "predicted_quality": qualities.get(name)}
        for name, cost in routed.costs.items()
    ]
    document = {
        "request_id": message.request_id,
        "prompt": message.prompt,
        "candidate": routed.candidate,
        "cost": message.n * routed.costs[routed.candidate],
        "cost_unit": labels["cost_unit"],
        "lambda": routed.lam,
        "predicted_quality": qualities.get(routed.candidate),
        "metric": labels["metric"],
        "estimator": labels["estimator"],
        "router_version": routed.router_version,
        "tokens": int(routed.tokens),
        "truncated": routed.truncated,
        "seconds": routed.seconds,
        "candidates": candidates,
        "ignored_fields": ignored,
    }
    return document | (explanation(routed) if explain else {})


async def get_router(request: Request) -> Response:
    """Handle ``GET /v1/router``. A client sees its own budget and those of the service."""
    document, key = runtime_of(request).require().core.router_document(), client_key(request)
    own = None if key is None else f"key:{key.key_id}"
    budgets = document["budgets"].items()
    shown = {name: b for name, b in budgets if name == own or not name.startswith("key:")}
    return json_response(document | {"budgets": shown})


async def get_models(request: Request) -> Response:
    """Handle ``GET /v1/models``."""
    items = model_items(runtime_of(request).require())
    return json_response({"object": "list", "data": items})


async def get_model(request: Request) -> Response:
    """Handle ``GET /v1/models/{model_id}``.

    Raises:
        ServingError: there is no such model (404).
    """
    name = request.path_params["model_id"]
    items = {item["id"]: item for item in model_items(runtime_of(request).require())}
    if name not in items:
        raise unknown_model(name, list(items))
    return json_response(items[name])


def model_items(backend: Backend) -> list[JsonObject]:
    """Return OpenAI's objects of the router, under both its names, and of the candidates."""
    candidates = backend.core.models()
    created = min((int(item.get("created", 0)) for item in candidates), default=0)
    common = {"object": "model", "owned_by": "catimage"}
    routers = [{"id": name, "created": created, **common} for name in ROUTER_NAMES]
    return routers + [{"created": created, **item, **common} for item in candidates]
