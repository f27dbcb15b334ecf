"""The routes of the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from catimage.serving.api.bodies import ImagesBody, JobBody, RouteBody
from catimage.serving.api.endpoints import Endpoint
from catimage.serving.api.handlers import images, jobs, routing, service
from catimage.serving.api.json_response import JSON
from catimage.serving.api.schemas import (
    ImagesAnswer,
    JobAnswer,
    ModelItem,
    ModelsAnswer,
    RouteAnswer,
    RouterAnswer,
    StatusAnswer,
)

Answers = dict[int, Mapping[str, Any]]


def _json(model: type[BaseModel], description: str, status: int = 200) -> Answers:
    return {status: {"model": model, "description": description}}


def _content(description: str, *media_types: str) -> Answers:
    schema = {"type": "string", "contentMediaType": "application/octet-stream"}
    content = {name: {"schema": schema} for name in media_types}
    return {200: {"description": description, "content": content}}


def _json_or_stream() -> Answers:
    properties = {"event": {"type": "string"}, "data": {"type": "string"}}
    stream = {"text/event-stream": {"schema": {"type": "object", "properties": properties}}}
    text = "The images, or, with 'stream', the events image_generation.partial_image and"
    answer = {"model": ImagesAnswer, "description": f"{text} image_generation.completed."}
    return {200: answer | {"content": stream}}


_JOB = "/v1/images/jobs/{job_id}"
_ALIVE = _json(StatusAnswer, "The process responds.")

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "POST",
        "/v1/images/generations",
        images.post_generations,
        "Generate images",
        body=ImagesBody,
        answers=_json_or_stream(),
        errors=(404,),
    ),
    Endpoint(
        "POST",
        "/v1/images/jobs",
        jobs.post_job,
        "Generate images later",
        body=JobBody,
        answers=_json(JobAnswer, "The stored job.", 202),
        errors=(404,),
    ),
    Endpoint(
        "GET",
        _JOB,
        jobs.get_job,
        "Return a job",
        answers=_json(JobAnswer, "The job."),
        errors=(404,),
    ),
    Endpoint(
        "GET",
        _JOB + "/result",
        jobs.get_result,
        "Return the images of a job",
        answers=_json(ImagesAnswer, "The answer to the request."),
        errors=(400, 404, 409),
    ),
    Endpoint(
        "POST",
        _JOB + "/cancel",
        jobs.cancel_job,
        "Cancel a job",
        answers=_json(JobAnswer, "The job."),
        errors=(404,),
    ),
    Endpoint(
        "GET",
        "/v1/images/files/{token}",
        images.get_file,
        "Return an image of a signed URL",
        public=True,
        answers=_content("The image.", "image/png", "image/jpeg", "image/webp"),
        errors=(404,),
    ),
    Endpoint(
        "POST",
        "/v1/route",
        routing.post_route,
        "Return the decision for one or many prompts",
        body=RouteBody,
        answers=_json(RouteAnswer, "The decision, or a list of decisions."),
        errors=(404,),
    ),
    Endpoint(
        "GET",
        "/v1/router",
        routing.get_router,
        "Describe the router",
        answers=_json(RouterAnswer, "The router."),
    ),
    Endpoint(
        "GET",
        "/v1/models",
        routing.get_models,
        "List the models",
        answers=_json(ModelsAnswer, "The models."),
    ),
    Endpoint(
        "GET",
        "/v1/models/{model_id:path}",
        routing.get_model,
        "Return a model",
        answers=_json(ModelItem, "The model."),
        errors=(404,),
    ),
    Endpoint("GET", "/livez", service.get_live, "Liveness check", True, True, answers=_ALIVE),
    Endpoint("GET", "/healthz", service.get_live, "Liveness check", True, True, answers=_ALIVE),
    Endpoint(
        "GET",
        "/readyz",
        service.get_ready,
        "Readiness check",
        True,
        True,
        answers=_json(StatusAnswer, "Requests can be answered.")
        | {503: {"model": StatusAnswer, "description": "Requests cannot be answered."}},
    ),
    Endpoint(
        "GET",
        "/metrics",
        service.get_metrics,
        "Metrics in Prometheus' format",
        answers=_content("The metrics.", "text/plain"),
    ),
    Endpoint(
        "GET",
        "/",
        service.get_page,
        "The playground",
        True,
        answers=_content("The page.", "text/html"),
    ),
    Endpoint(
        "GET",
        "/playground.js",
        service.get_page,
        "Script of the playground",
        True,
        answers=_content("The script.", "text/javascript"),
    ),
    Endpoint(
        "GET",
        "/playground.css",
        service.get_page,
        "Style sheet of the playground",
        True,
        answers=_content("The style sheet.", "text/css"),
    ),
    Endpoint(
        "GET",
        "/openapi.json",
        service.get_openapi,
        "The OpenAPI document",
        answers={
            200: {"description": "The document.", "content": {JSON: {"schema": {"type": "object"}}}}
        },
    ),
    Endpoint(
        "GET",
        "/docs",
        service.get_docs,
        "The OpenAPI document as a page",
        answers=_content("The page.", "text/html"),
    ),
)
"""All routes. A route that is not public needs a key once keys are configured."""
