"""The answers of jobs: the same documents as those of ``POST /v1/images/generations``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from catimage.serving.api.answers import AnswerOptions
from catimage.serving.api.backend import Backend
from catimage.serving.api.generation import Generation
from catimage.serving.api.image_urls import ImageLinks
from catimage.serving.messages import ApiKey, ImageRequest, JsonObject, ServingError
from catimage.serving.telemetry.logs import request_logged

AnswerJob = Callable[[ImageRequest, JsonObject], Awaitable[JsonObject]]
"""Generates the images of a job, and returns the document of the answer."""


def job_options(options: AnswerOptions, base: str) -> JsonObject:
    """Return the options of an answer as JSON, for the row of a job.

    Args:
        options: the options.
        base: the URL under which the client reached the service.
    """
    return options.document() | {"base_url": base}


def job_answers(backend: Backend) -> AnswerJob:
    """Return the function that answers jobs."""

    async def answer(request: ImageRequest, options: JsonObject) -> JsonObject:
        fields = {name: value for name, value in options.items() if name != "base_url"}
        links = ImageLinks(backend.secret, backend.settings.url_seconds, options["base_url"])
        unit = str(backend.core.labels["cost_unit"])
        key = await run_in_threadpool(current_key, backend, request)
        used = replace(request, key=key)
        generation = Generation(backend, used, AnswerOptions(**fields), links, unit)
        private = (request.prompt, request.negative_prompt, request.user)
        with request_logged(request.request_id, key.key_id if key else None, private):
            return await generation.answer()

    return answer


def current_key(backend: Backend, request: ImageRequest) -> ApiKey | None:
    """Return the key of a job with its present limits.

    Raises:
        ServingError: the key was revoked after the job was submitted (401).
    """
    if request.key is None:
        return None
    key = backend.state.keys.current(request.key.key_id)
    if key is None:
        message = "Authorization: the API key of the job was revoked. Send it with another key."
        raise ServingError(message, 401, "invalid_api_key")
    return key
