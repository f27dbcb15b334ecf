"""The client of the service: images, decisions, models and jobs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self, overload
from urllib.parse import quote

import httpx

from catimage.serving.client.answers import (
    AnsweredImages,
    RoutedPrompt,
    StreamedImage,
    SubmittedJob,
    images_of,
    routed_prompt,
    streamed_image,
    submitted_job,
)
from catimage.serving.client.errors import ServiceError, event_error
from catimage.serving.client.transport import Transport

_GENERATIONS, _JOBS = "/v1/images/generations", "/v1/images/jobs"


class Client:
    """A client of a CATImage service.

    All methods raise :class:`catimage.serving.client.errors.ServiceError`. Fields of the request
    that are None are left out. The fields of ``fields`` are those of the API (docs/clients.md),
    such as ``size``, ``negative_prompt``, ``output_format`` or ``max_latency_ms``; the field
    ``lambda`` is ``lam``, because the other is a keyword of Python.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:3000",
        api_key: str | None = None,
        timeout: float = 120.0,
        retries: int = 2,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Create a client.

        Args:
            base_url: the URL of the service, with or without ``/v1``.
            api_key: the API key; by default the environment variable ``CATIMAGE_API_KEY``.
            timeout: seconds without any data after which a request fails.
            retries: largest number of repetitions of a request for which the service did no work.
            transport: replaces the network, for tests.
        """
        key = os.environ.get("CATIMAGE_API_KEY") if api_key is None else api_key
        self._http = Transport(base_url, key or None, timeout, retries, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def generate(
        self,
        prompt: str,
        n: int | None = None,
        *,
        model: str | None = None,
        budget: float | None = None,
        lam: float | None = None,
        quality: str | None = None,
        seed: int | None = None,
        **fields: Any,
    ) -> AnsweredImages:
        """Return the images of a prompt.

        Args:
            prompt: the prompt.
            n: number of images.
            model: a candidate that is used without routing.
            budget: mean cost per image, in the cost unit of the service.
            lam: lambda, in quality per unit of cost, instead of a budget.
            quality: ``low``, ``medium``, ``high`` or ``auto``.
            seed: seed of the first image.
            fields: further fields of the API.
        """
        known = {"model": model, "budget": budget, "lam": lam, "quality": quality, "seed": seed}
        body = _body(known | fields, prompt=prompt, n=n)
        return images_of(self._http.request("POST", _GENERATIONS, body), self._http.fetch)

    def stream(
        self, prompt: str, n: int | None = None, *, partial_images: int = 1, **fields: Any
    ) -> Iterator[StreamedImage]:
        """Yield the partial images of a prompt while they are generated, then the finished ones.

        Closing the iterator cancels the request. See :meth:`generate` for the fields.
        """
        body = _body(fields, prompt=prompt, n=n, partial_images=partial_images, stream=True)
        with self._http.open("POST", _GENERATIONS, body) as response:
            for document in _events(self._http.lines(response)):
                yield streamed_image(document)

    @overload
    def route(self, prompts: str, **fields: Any) -> RoutedPrompt: ...

    @overload
    def route(self, prompts: Sequence[str], **fields: Any) -> list[RoutedPrompt]: ...

    def route(
        self, prompts: str | Sequence[str], **fields: Any
    ) -> RoutedPrompt | list[RoutedPrompt]:
        """Return the decision for a prompt, or a list of decisions for several prompts."""
        one = isinstance(prompts, str)
        body = _body(fields, prompt=prompts if one else list(prompts))
        document = self._http.request("POST", "/v1/route", body)
        if isinstance(prompts, str):
            return routed_prompt(document, prompts)
        return [routed_prompt(d, p) for d, p in zip(document["data"], prompts, strict=True)]

    def models(self) -> list[dict[str, Any]]:
        """Return the router and the candidates, with their costs."""
        return list(self._http.request("GET", "/v1/models")["data"])

    def router(self) -> dict[str, Any]:
        """Return the version, the budget, lambda and the deferral curve of the router."""
        return dict(self._http.request("GET", "/v1/router"))

    def submit(self, prompt: str, n: int | None = None, **fields: Any) -> SubmittedJob:
        """Store a request for images that the service answers later, also after a restart."""
        return submitted_job(self._http.request("POST", _JOBS, _body(fields, prompt=prompt, n=n)))

    def job(self, job_id: str) -> SubmittedJob:
        """Return a job."""
        return submitted_job(self._http.request("GET", f"{_JOBS}/{quote(job_id, safe='')}"))

    def cancel(self, job_id: str) -> SubmittedJob:
        """Cancel a job that has not ended, and return it."""
        path = f"{_JOBS}/{quote(job_id, safe='')}/cancel"
        return submitted_job(self._http.request("POST", path))

    def wait(self, job_id: str, timeout: float = 600.0, interval: float = 0.5) -> AnsweredImages:
        """Wait until a job has ended, and return its images.

        Raises:
            ServiceError: the job failed or was cancelled, or has not ended after ``timeout`` s.
        """
        end = time.monotonic() + timeout
        while not (job := self.job(job_id)).finished:
            if time.monotonic() >= end:
                raise ServiceError(
                    f"job {job_id}: {job.status} after {timeout:g} s. Wait longer, or cancel it."
                )
            time.sleep(interval)
        if job.status != "succeeded":
            error = job.document.get("error") or {}
            message = error.get("message") or f"job {job_id}: {job.status}. Submit it again."
            raise ServiceError(str(message), None, error.get("code"), error.get("param"))
        path = f"{_JOBS}/{quote(job_id, safe='')}/result"
        return images_of(self._http.request("GET", path), self._http.fetch)


def _body(fields: dict[str, Any], **known: Any) -> dict[str, Any]:
    """Return the fields of a request that are not None; ``lam`` is the field ``lambda``."""
    present = {name: value for name, value in (known | fields).items() if value is not None}
    return {"lambda" if name == "lam" else name: value for name, value in present.items()}


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the documents of the lines of server-sent events.

    Raises:
        ServiceError: an event is an error.
    """
    name = ""
    for line in lines:
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            document = json.loads(line.removeprefix("data:"))
            if name == "error" or "error" in document:
                raise event_error(document)
            yield document
