"""Jobs over HTTP: submission, status, result, cancellation, and a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from catimage.serving.generator.failures import PromptModerated
from catimage.serving.tasks import ImageTask, TaskEvent
from tests.serving.api.harness import PROMPT, Service, running_app
from tests.serving.cores import CANDIDATES
from tests.serving.groups import ScriptedGroup, hang

JOBS = "/v1/images/jobs"


async def submit(service: Service, **fields: Any) -> str:
    response = await service.client.post(JOBS, json={"prompt": PROMPT, **fields})
    assert response.status_code == 202, response.text
    job = response.json()
    assert (job["object"], job["status"], job["error"]) == ("image.job", "queued", None)
    path = f"{JOBS}/{job['id']}"
    assert response.headers["location"] == path
    return path


async def ended(service: Service, path: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            job = dict((await service.client.get(path)).json())
            if job["status"] not in ("queued", "running"):
                return job
            await asyncio.sleep(0.02)


def test_result_is_the_answer_of_the_same_request(root: Path) -> None:
    async def main() -> None:
        async with running_app(root, ScriptedGroup("g", *CANDIDATES)) as service:
            path = await submit(service, n=2, seed=3, output_format="webp", user="u")
            assert (await ended(service, path))["status"] == "succeeded"
            result = (await service.client.get(f"{path}/result")).json()
            direct = await service.document(n=2, seed=3, output_format="webp", user="u")
            assert result["data"] == direct["data"]
            assert result["catimage"]["ignored_fields"] == ["user"]
            assert PROMPT not in (await service.client.get(path)).text

    asyncio.run(main())


def test_urls_of_a_job_work(root: Path) -> None:
    async def main() -> None:
        async with running_app(root, ScriptedGroup("g", *CANDIDATES)) as service:
            path = await submit(service, response_format="url")
            await ended(service, path)
            result = (await service.client.get(f"{path}/result")).json()
            image = await service.client.get(result["data"][0]["url"])
            assert image.headers["content-type"] == "image/png"

    asyncio.run(main())


def test_a_running_job_can_be_cancelled(root: Path) -> None:
    async def main() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts.append(hang)
        async with running_app(root, group) as service:
            path = await submit(service)
            while not group.tasks:
                await asyncio.sleep(0.01)
            response = await service.client.get(f"{path}/result")
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (409, "job_not_finished")
            cancelled = await service.client.post(f"{path}/cancel")
            assert cancelled.json()["status"] == "cancelled"
            response = await service.client.get(f"{path}/result")
            assert response.json()["error"]["code"] == "job_cancelled"
            async with asyncio.timeout(10):
                while not group.cancelled:
                    await asyncio.sleep(0.01)

    asyncio.run(main())


def test_a_job_that_fails_says_why(root: Path) -> None:
    async def main() -> None:
        group = ScriptedGroup("g", *CANDIDATES)

        async def moderated(task: ImageTask) -> AsyncIterator[TaskEvent]:
            raise PromptModerated("moderated. Change the prompt.")
            yield

        group.scripts = [moderated]
        async with running_app(root, group) as service:
            path = await submit(service)
            job = await ended(service, path)
            assert job["status"] == "failed" and job["error"]["code"] == "moderation_blocked"
            response = await service.client.get(f"{path}/result")
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (409, "job_failed")

    asyncio.run(main())


@pytest.mark.parametrize("fields", [{"stream": True}, {"model": "mini-3"}, {"promt": "a"}])
def test_an_invalid_job_is_refused_at_once(client: httpx.Client, fields: dict[str, Any]) -> None:
    response = client.post(JOBS, json={"prompt": PROMPT, **fields})
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == next(iter(fields))


def test_unknown_job(client: httpx.Client) -> None:
    for path in ("", "/result"):
        response = client.get(f"{JOBS}/job-1{path}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "job_not_found")
    assert client.post(f"{JOBS}/job-1/cancel").status_code == 404
