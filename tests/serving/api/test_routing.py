"""``/v1/route``, ``/v1/router``, ``/v1/models``, health checks, metrics and the playground."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from catimage.serving.api.app import create_app
from catimage.serving.api.backend import Backend
from catimage.serving.api.bodies import MOST_PROMPTS
from tests.serving.api.harness import BASE, GENERATIONS, PROMPT, running_app
from tests.serving.cores import CANDIDATES
from tests.serving.groups import ScriptedGroup, hang


def route(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/v1/route", json={"prompt": PROMPT, **fields})


def test_one_prompt_has_one_decision_and_a_list_has_a_list(client: httpx.Client) -> None:
    one = route(client, seed=1).json()
    assert one["candidate"] in CANDIDATES and one["prompt"] == PROMPT
    assert [c["candidate"] for c in one["candidates"]] == list(CANDIDATES)
    many = route(client, prompt=[PROMPT] * 3, seed=1).json()
    assert many["object"] == "list" and len(many["data"]) == 3
    assert many["data"][0]["candidate"] == one["candidate"]


def test_decisions_are_limited_in_number(client: httpx.Client) -> None:
    assert route(client, prompt=["a"] * MOST_PROMPTS).status_code == 200
    for prompts in (["a"] * (MOST_PROMPTS + 1), [], [1], {"a": 1}, 1):
        response = route(client, prompt=prompts)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")


def test_lambda_and_budget_decide(client: httpx.Client) -> None:
    assert route(client, **{"lambda": 0.0}).json()["candidate"] == "mini-4"
    assert route(client, **{"lambda": 100.0}).json()["candidate"] == "mini-1"
    assert route(client, budget=1.0, n=3).json()["cost"] == 3.0
    response = route(client, budget=0.5)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "budget")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", '"1"', "true", "1e999"])
def test_lambda_must_be_a_finite_number(client: httpx.Client, value: str) -> None:
    content = b'{"prompt": "a", "lambda": %b}' % value.encode()
    headers = {"Content-Type": "application/json"}
    response = client.post("/v1/route", content=content, headers=headers)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "lambda")


def test_an_empty_prompt_of_a_list_is_named(client: httpx.Client) -> None:
    error = route(client, prompt=[PROMPT, " "]).json()["error"]
    assert error["param"] == "prompt[1]" and error["message"].startswith("prompt[1]: only white")


@pytest.mark.parametrize("name", ["gpt-image-1", "dall-e-3"])
def test_names_of_openais_models_let_the_router_decide(client: httpx.Client, name: str) -> None:
    named, unnamed = route(client, seed=1, model=name).json(), route(client, seed=1).json()
    same = ("candidate", "lambda", "budget", "candidates")
    assert {k: named[k] for k in same if k in named} == {k: unnamed[k] for k in same if k in named}
    assert "candidate" in named and named["ignored_fields"] == []
    assert client.get(f"/v1/models/{name}").status_code == 404


def test_models(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()
    assert [m["id"] for m in listed["data"]] == ["catimage", "auto", *CANDIDATES]
    for model in listed["data"]:
        assert (model["object"], model["owned_by"]) == ("model", "catimage")
        assert client.get(f"/v1/models/{model['id']}").json() == model
    assert listed["data"][2]["cost"] == 1.0
    missing = client.get("/v1/models/mini-3")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_router_document(client: httpx.Client) -> None:
    document = client.get("/v1/router").json()
    assert {"version", "lineage", "curve", "cost_unit", "metric"} <= set(document)


def test_metrics_count_the_requests_by_route(client: httpx.Client) -> None:
    client.get("/v1/models/secret-name")
    text = client.get("/metrics").text
    pattern = r'catimage_requests_total\{route="/v1/models/\{model_id\}",status="404"\} (\d+)'
    assert re.search(pattern, text) and "secret-name" not in text


def test_pages_load_nothing_from_other_origins(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for path in ("/", "/playground.js", "/playground.css", "/docs"):
        text = client.get(path).text
        assert "://" not in text and "style=" not in text
    for name in re.findall(r'(?:src|href)="([\w.]+)"', page.text):
        assert client.get(f"/{name}").status_code == 200
    labelled = set(re.findall(r'<label for="(\w+)"', page.text))
    assert {"prompt", "model", "quality", "budget", "key"} <= labelled


def test_metrics_count_the_requests_in_progress(root: Path) -> None:
    name = f'catimage_requests_in_progress{{route="{GENERATIONS}"}} '

    async def main() -> None:
        group = ScriptedGroup("g", *CANDIDATES)
        group.scripts.append(hang)
        async with running_app(root, group) as service:
            request = asyncio.create_task(service.generate())
            while not group.tasks:
                await asyncio.sleep(0.01)
            assert f"{name}1.0" in (await service.client.get("/metrics")).text
            request.cancel()
            await asyncio.wait([request])
            assert f"{name}0.0" in (await service.client.get("/metrics")).text

    asyncio.run(main())


def test_service_answers_the_liveness_check_and_says_why_it_is_not_ready() -> None:
    async def fail() -> Backend:
        raise OSError("the database is away")

    async def main() -> None:
        app = create_app(fail)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                assert (await client.get("/livez")).status_code == 200
                await asyncio.sleep(0.01)
                ready = await client.get("/readyz")
                assert (ready.status_code, ready.json()["status"]) == (503, "starting")
                assert ready.json()["reason"] == "the database is away"
                response = await client.get("/v1/models")
                assert (response.status_code, response.headers["retry-after"]) == (503, "2")
                assert (await client.get("/")).status_code == 200

    asyncio.run(main())
