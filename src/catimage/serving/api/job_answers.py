"""The answers of jobs: the same documents as those of ``POST /v1/images/generations``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from catimage.serving.api.answers import AnswerOptions
from catimage.serving.api.backend import Backend
from catimage.serving.api.generation import Generation
from catimage.serving.api.image_urls import ImageLinks
from catimage.serving.messages import ImageRequest, JsonObject

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
        generation = Generation(backend, request, AnswerOptions(**fields), links, unit)
        return await generation.answer()

    return answer
