"""Jobs: requests for images that are stored, and answered also after a restart."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from catimage.serving.api.answers import AnswerOptions
from catimage.serving.api.bodies import JobBody
from catimage.serving.api.errors import abbreviated
from catimage.serving.api.handlers.images import base_url
from catimage.serving.api.job_answers import job_options
from catimage.serving.api.json_response import json_response
from catimage.serving.api.parsing import parse_body
from catimage.serving.api.requests import client_key, image_request, request_id, with_known_model
from catimage.serving.api.runtime import runtime_of
from catimage.serving.messages import JsonObject, ServingError
from catimage.serving.state.jobs import CANCELLED, FAILED, SUCCEEDED, JobRecord

ERROR = {"message": "", "type": "server_error", "param": None, "code": None}
"""The fields of the error of a job that failed."""


async def post_job(request: Request) -> Response:
    """Handle ``POST /v1/images/jobs``."""
    backend = runtime_of(request).require()
    body = await parse_body(request, JobBody)
    if body.stream:
        text = "stream: jobs have no streams. Use POST /v1/images/generations."
        raise ServingError(text, param="stream")
    candidates, aliases = backend.core.labels["candidates"], backend.settings.model_aliases
    body = with_known_model(body, candidates, aliases)
    message = image_request(body, request_id(request), client_key(request), backend.settings)
    backend.core.check(message)
    answer = job_options(AnswerOptions.of(body), base_url(request))
    job = await backend.core.jobs.submit(message, answer)
    return json_response(job_document(job), 202, {"Location": f"{request.url.path}/{job.job_id}"})


async def get_job(request: Request) -> Response:
    """Handle ``GET /v1/images/jobs/{job_id}``."""
    return json_response(job_document(await _job(request)))


async def get_result(request: Request) -> Response:
    """Handle ``GET /v1/images/jobs/{job_id}/result``.

    Raises:
        ServingError: the job has not succeeded (409), or there is no such job (404).
    """
    job = await _job(request)
    if job.status == SUCCEEDED:
        return json_response(job.result)
    code = {FAILED: "job_failed", CANCELLED: "job_cancelled"}.get(job.status, "job_not_finished")
    fix = "Try again later" if code == "job_not_finished" else "Submit it again"
    message = f"job: {job.status}. {fix}."
    retryable = code == "job_not_finished"
    raise ServingError(message, 409, code, retry_after=1 if retryable else None)


async def cancel_job(request: Request) -> Response:
    """Handle ``POST /v1/images/jobs/{job_id}/cancel``.

    A job that has ended is returned as it is.
    """
    job = await _job(request)
    jobs, key = runtime_of(request).require().state.jobs, client_key(request)
    cancelled = await run_in_threadpool(jobs.cancel, job.job_id, key.key_id if key else None)
    return json_response(job_document(cancelled or job))


async def _job(request: Request) -> JobRecord:
    """Return the job of the path.

    Raises:
        ServingError: there is no such job, or it belongs to another key (404).
    """
    name, key = request.path_params["job_id"], client_key(request)
    jobs = runtime_of(request).require().state.jobs
    job = await run_in_threadpool(jobs.get, name, key.key_id if key else None)
    if job is None:
        message = f"job: {abbreviated(name)} does not exist. Check the id."
        raise ServingError(message, 404, "job_not_found")
    return job


def job_document(job: JobRecord) -> JsonObject:
    """Return a job without its prompt and without its images."""
    times = {"started_at": job.started, "finished_at": job.finished}
    return {
        "id": job.job_id,
        "object": "image.job",
        "status": job.status,
        "created_at": int(job.created),
        **{name: None if value is None else int(value) for name, value in times.items()},
        "error": None if job.error is None else ERROR | job.error,
    }
