"""The OpenAPI document, with the names, sizes and costs of the candidates that are served."""

from __future__ import annotations

import copy
import html
import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from catimage.serving.api.backend import Backend
from catimage.serving.api.bodies import ImagesBody, JobBody, RouteBody
from catimage.serving.api.endpoints import Endpoint
from catimage.serving.api.json_response import JSON
from catimage.serving.api.requests import ROUTER_NAMES
from catimage.serving.api.schemas import ErrorAnswer
from catimage.serving.messages import ServingError

BODIES: tuple[type[BaseModel], ...] = (ImagesBody, JobBody, RouteBody)
"""The request bodies."""
_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "A field is unknown or invalid, or the prompt was refused.",
    401: "The API key is missing, unknown or revoked.",
    404: "There is no such object.",
    408: "The body arrived too slowly.",
    409: "The job has not ended, or has failed.",
    413: "The body is too large.",
    415: "The media type is not JSON.",
    429: "Too many requests, too long a queue, or the ceiling of the key is reached.",
    500: "An unexpected error. The message has no details.",
    503: "The service is starting, shutting down, or no generator is available.",
}
_RETRY = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}


def responses(endpoint: Endpoint) -> dict[int | str, dict[str, Any]]:
    """Return the argument ``responses`` of FastAPI for a route."""
    statuses = {*endpoint.errors, 500, *(() if endpoint.health else (503,))}
    statuses |= set() if endpoint.public else {401, 429}
    statuses |= {400, 408, 413, 415} if endpoint.body is not None else set()
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": _ERRORS[status]}
        | ({"headers": _RETRY} if status in (429, 503) else {})
        for status in sorted(statuses)
    }
    return {status: dict(answer) for status, answer in endpoint.answers.items()} | errors


def operation_fields(endpoint: Endpoint) -> dict[str, Any]:
    """Return the argument ``openapi_extra`` of FastAPI for a route: its parameters and its body."""
    names = endpoint.pattern.groupindex
    text = {"type": "string", "minLength": 1}
    fields: dict[str, Any] = {
        "parameters": [{"name": n, "in": "path", "required": True, "schema": text} for n in names]
    }
    if endpoint.body is not None:
        schema = {"$ref": _REF.format(model=endpoint.body.__name__)}
        fields["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return fields


def openapi_document(app: FastAPI, backend: Backend | None) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        app: the application.
        backend: the parts of the service; None if they are not open yet, so that the document names
            no candidates.
    """
    if app.openapi_schema is None:
        app.openapi_schema = _static_document(app)
    document = copy.deepcopy(app.openapi_schema)
    if backend is not None:
        _add_candidates(document, backend)
    return document


def _static_document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    _, bodies = models_json_schema([(b, "validation") for b in BODIES], ref_template=_REF)
    schemas |= bodies["$defs"]
    for body in BODIES:
        # Both are refused together.
        both = {"required": ["budget", "lambda"], "properties": _numbers("budget", "lambda")}
        schemas[body.__name__]["not"] = both
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            public = app.state.table.public(path, method)
            operation["security"] = [] if public else [{"key": []}, {}]
    return document


def _numbers(*names: str) -> dict[str, Any]:
    return {name: {"type": "number"} for name in names}


def _add_candidates(document: dict[str, Any], backend: Backend) -> None:
    """Name the models, the sizes and the largest ``n`` in the schemas of the request bodies."""
    try:
        models = backend.core.models()
    except ServingError:  # the router is not loaded yet
        models = []
    for body in BODIES:
        properties = document["components"]["schemas"][body.__name__]["properties"]
        _variant(properties["n"], "integer")["maximum"] = backend.settings.max_images
        if models:
            names = [*ROUTER_NAMES, *(m["id"] for m in models)]
            names += [n for n in backend.settings.model_aliases if n not in names]
            _variant(properties["model"], "string")["enum"] = names
            sizes = sorted({m["size"] for m in models})
            _variant(properties["size"], "string")["enum"] = ["auto", *sizes]


def _variant(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the part of a schema ``anyOf`` that has a type."""
    return next(part for part in schema["anyOf"] if part.get("type") == kind)


def html_document(document: dict[str, Any]) -> str:
    """Return the OpenAPI document as a page without scripts."""
    parts = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = ", ".join(operation["responses"])
            title = html.escape(f"{method.upper()} {path}")
            text = html.escape(operation["summary"])
            parts.append(f"<h2><code>{title}</code></h2><p>{text}<br>Responses: {answers}</p>")
    for name, schema in document["components"]["schemas"].items():
        text = html.escape(json.dumps(schema, indent=2))
        title = html.escape(name)
        parts.append(f"<details><summary><code>{title}</code></summary><pre>{text}</pre></details>")
    title = html.escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<link rel="stylesheet" href="playground.css"></head><body><main>'
        f'<h1>{title}</h1><p>The document: <a href="openapi.json">openapi.json</a></p>'
        f"{''.join(parts)}</main></body></html>"
    )
