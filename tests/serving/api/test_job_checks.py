"""Jobs that no candidate can make, and jobs of revoked keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catimage.serving import jobs
from catimage.serving.api.answers import AnswerOptions
from catimage.serving.api.job_answers import job_answers, job_options
from catimage.serving.messages import ServingError
from tests.serving.api.harness import BASE, PROMPT, running_app
from tests.serving.cores import CANDIDATES, request
from tests.serving.groups import ScriptedGroup

JOBS = "/v1/images/jobs"


@pytest.mark.parametrize(
    "fields",
    [
        {"size": "8x8"},
        {"model": "mini-1", "size": "8x8"},
        {"budget": 0.001},
    ],
)
def test_a_job_that_no_candidate_can_make_is_refused_at_once(
    root: Path, fields: dict[str, Any]
) -> None:
    async def main() -> None:
        async with running_app(root, ScriptedGroup("g", *CANDIDATES)) as service:
            response = await service.client.post(JOBS, json={"prompt": PROMPT, **fields})
            assert response.status_code == 400, response.text
            direct = await service.error(**fields)
            assert response.json()["error"]["message"] == direct["message"]
            assert service.backend.state.jobs.waiting() == 0

    asyncio.run(main())


def test_a_job_uses_the_present_limits_of_its_key_and_not_a_revoked_key(root: Path) -> None:
    async def main() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_app(root, group) as service:
            keys, spending = service.backend.state.keys, service.backend.state.spending
            key, _ = keys.create("client")
            job = request(key=replace(key, ceiling=0.0), model="mini-2")
            answer, options = job_answers(service.backend), job_options(AnswerOptions(), BASE)
            document = await answer(job, options)
            assert len(document["data"]) == 1 and len(group.tasks) == 1
            await service.backend.core.drained()  # type: ignore[attr-defined]
            assert spending.spent(key.key_id) == 2.0
            keys.revoke(key.key_id)
            with pytest.raises(ServingError) as refused:
                await answer(job, options)
            assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
            assert len(group.tasks) == 1

    asyncio.run(main())


def test_the_number_of_waiting_jobs_is_limited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MAX_WAITING", 2)

    async def main() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        async with running_app(root, group) as service:
            group.queue_seconds = 100.0  # jobs do not start under load
            service.backend.core.fleet.members["g"].failed.set()  # type: ignore[attr-defined]
            while service.backend.core.fleet.members["g"].wait < 1:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
            answers = [await service.client.post(JOBS, json={"prompt": PROMPT}) for _ in range(3)]
            assert [a.status_code for a in answers] == [202, 202, 429]
            assert answers[2].headers["Retry-After"] == "60"

    asyncio.run(main())
