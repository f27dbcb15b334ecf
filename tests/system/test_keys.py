"""Missing and wrong keys, and two replicas that share the state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from benchmarks.serving.load import Call
from openai import AuthenticationError, OpenAI, RateLimitError

from catimage.serving.client.client import Client
from catimage.serving.client.errors import InvalidKeyError
from tests.system.running_service import (
    CHEAPEST,
    GENERATIONS,
    PROMPT,
    RunningService,
    create_key,
    run_load,
    serve,
)

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def secured(packaged: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with one key."""
    with serve(packaged, tmp_path_factory.mktemp("keys")) as running:
        yield running


@pytest.fixture(scope="module")
def secret(packaged: Path, secured: RunningService) -> str:
    key = str(create_key(packaged, secured.env)["secret"])
    time.sleep(2.5)  # serving.refresh_seconds
    return key


def test_missing_and_wrong_keys_are_refused(secured: RunningService, secret: str) -> None:
    def status(**headers: str) -> int:
        url = secured.url + GENERATIONS
        return httpx.post(
            url, json={"prompt": PROMPT}, headers=headers, trust_env=False, timeout=30
        ).status_code

    assert status() == 401
    assert status(Authorization="Bearer wrong") == 401
    assert status(Authorization=secret) == 401  # not of the form Bearer SECRET
    assert status(Authorization=f"Basic {secret}") == 401
    assert status(Authorization=f"Bearer {secret}") == 200
    with pytest.raises(AuthenticationError):
        OpenAI(base_url=secured.url + "/v1", api_key="wrong").images.generate(prompt=PROMPT)
    with Client(secured.url, api_key="wrong") as client, pytest.raises(InvalidKeyError):
        client.models()
    with Client(secured.url, api_key=secret) as client:
        assert {model["id"] for model in client.models()} >= {"catimage", CHEAPEST}
    assert secret not in secured.log()


def test_health_and_the_page_need_no_key_and_all_other_routes_do(
    secured: RunningService, secret: str
) -> None:
    with secured.client() as anonymous, secured.client(secret) as known:
        assert [anonymous.get(path).status_code for path in ("/livez", "/readyz", "/")] == [200] * 3
        document = known.get("/openapi.json").json()
        methods = ("get", "post", "put", "patch", "delete")
        closed = {
            (method, path)
            for path, item in document["paths"].items()
            for method in methods
            if method in item
        }
        answers = {
            (method, path): anonymous.request(method, path.replace("{", "x").replace("}", "x"))
            for method, path in closed
        }
        public = {path for (_, path), answer in answers.items() if answer.status_code != 401}
        assert public <= {
            "/livez",
            "/healthz",
            "/readyz",
            "/",
            "/playground.js",
            "/playground.css",
            "/v1/images/files/{token}",
        }
        assert len(closed) > 8


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_two_replicas_share_a_ceiling_and_the_budget(
    packaged: Path, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """Requests of one key reach both replicas at once; the ceiling is that of 20 images."""
    place = f"sqlite:///{tmp_path / 'shared.db'}"
    if database == "postgresql":
        place = request.getfixturevalue("postgresql").new_database()
    state = {"CATIMAGE_STATE_URL": place}
    with (
        serve(packaged, tmp_path / "a", state) as first,
        serve(packaged, tmp_path / "b", state) as second,
    ):
        limited = create_key(packaged, first.env, "--ceiling", "20")["secret"]
        free = create_key(packaged, first.env)["secret"]
        time.sleep(2.5)
        statuses = _both(first, second, limited)
        assert statuses == {200: 20, 429: 20}
        with pytest.raises(RateLimitError) as raised:
            url = second.url + "/v1"
            OpenAI(base_url=url, api_key=limited).images.generate(prompt=PROMPT, model=CHEAPEST)
        assert raised.value.code == "insufficient_quota"
        for service in (first, second):
            headers = {"Authorization": f"Bearer {free}"}
            calls = [
                Call(GENERATIONS, {"prompt": f"{PROMPT} {i}", "seed": i}, 1, headers)
                for i in range(30)
            ]
            assert run_load(service, calls, 4).statuses == {200: 30}
        time.sleep(3)
        lambdas = [_lambdas(service, free) for service in (first, second)]
        assert lambdas[0] == pytest.approx(lambdas[1]) and lambdas[0]


def _both(first: RunningService, second: RunningService, secret: str) -> dict[int, int]:
    """Send 20 requests of a key to each replica at the same time; return the statuses."""
    import asyncio

    from benchmarks.serving.load import closed_loop

    headers = {"Authorization": f"Bearer {secret}"}
    calls = [
        Call(GENERATIONS, {"prompt": PROMPT, "model": CHEAPEST, "seed": i}, 1, headers)
        for i in range(20)
    ]

    async def run() -> list[int]:
        loads = await asyncio.gather(
            *(closed_loop(service.url, iter(calls), 10) for service in (first, second))
        )
        return [outcome.status for load in loads for outcome in load.outcomes]

    found = asyncio.run(run())
    return {status: found.count(status) for status in sorted(set(found))}


def _lambdas(service: RunningService, secret: str) -> dict[str, float]:
    """Return the live lambda of every budget in use."""
    with Client(service.url, api_key=secret) as client:
        budgets = client.router()["budgets"]
    return {scope: budget["lambda"] for scope, budget in budgets.items()}
