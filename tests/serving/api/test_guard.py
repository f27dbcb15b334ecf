"""Keys, rate limits, shutdown, limits of bodies, request ids, methods and headers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from catimage.serving.api import parsing
from catimage.serving.api.parsing import MAX_BODY
from catimage.serving.api.routes import ENDPOINTS
from tests.serving.api.harness import GENERATIONS, PROMPT, running_app
from tests.serving.cores import CANDIDATES
from tests.serving.groups import ScriptedGroup

PUBLIC = {
    "/",
    "/playground.js",
    "/playground.css",
    "/livez",
    "/healthz",
    "/readyz",
    "/v1/images/files/{token}",
}
"""The routes that need no key."""


def group() -> ScriptedGroup:
    return ScriptedGroup("g", *CANDIDATES)


def test_every_route_but_the_public_ones_needs_a_key_once_keys_exist(root: Path) -> None:
    async def main() -> None:
        async with running_app(root, group()) as service:
            _, secret = service.backend.state.keys.create("app")
            routes = [(r.path, m) for r in service.app.routes for m in r.methods]  # type: ignore[attr-defined]
            assert len(routes) == len(ENDPOINTS)
            for path, method in [*routes, ("/unknown", "GET"), ("/v1/images/edits", "POST")]:
                url = re.sub(r"\{.*?\}", "x", path)
                template = path.replace(":path", "")
                for headers in ({}, {"Authorization": f"Bearer {secret[:-1]}!"}):
                    response = await service.client.request(method, url, headers=headers)
                    assert (response.status_code == 401) == (template not in PUBLIC), path
                valid = {"Authorization": f"Bearer {secret}"}
                response = await service.client.request(method, url, headers=valid)
                assert response.status_code not in (401, 500), path

    asyncio.run(main())


def test_a_wrong_key_is_refused_before_the_body_is_read(root: Path) -> None:
    sent: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        sent.append(1)
        yield b"{}"

    async def main() -> None:
        async with running_app(root, group()) as service:
            service.backend.state.keys.create("app")
            headers = {"Authorization": "Bearer wrong", "Content-Type": "application/json"}
            response = await service.client.post(GENERATIONS, content=chunks(), headers=headers)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
            assert "wrong" not in response.text and sent == []

    asyncio.run(main())


def test_a_revoked_key_is_refused_and_the_service_does_not_open(root: Path) -> None:
    async def main() -> None:
        async with running_app(root, group()) as service:
            keys = service.backend.state.keys
            key, secret = keys.create("app")
            service.client.headers["Authorization"] = f"Bearer {secret}"
            assert (await service.generate()).status_code == 200
            keys.revoke(key.key_id)
            assert (await service.generate()).status_code == 401

    asyncio.run(main())


def test_a_key_sees_only_its_own_jobs(root: Path) -> None:
    async def main() -> None:
        async with running_app(root, group()) as service:
            keys = service.backend.state.keys
            mine, other = ({"Authorization": f"Bearer {keys.create(n)[1]}"} for n in "ab")
            body = {"prompt": PROMPT}
            job = await service.client.post("/v1/images/jobs", json=body, headers=mine)
            path = f"/v1/images/jobs/{job.json()['id']}"
            assert (await service.client.get(path, headers=mine)).status_code == 200
            assert (await service.client.get(path, headers=other)).status_code == 404

    asyncio.run(main())


def test_a_key_sees_its_own_budget_and_those_of_the_service(root: Path) -> None:
    async def main() -> None:
        async with running_app(root, group()) as service:
            keys = service.backend.state.keys
            (first, secret), (second, other) = (keys.create(n, budget=1.5) for n in "ab")
            for text in (secret, other):
                headers = {"Authorization": f"Bearer {text}"}
                body = {"prompt": PROMPT}
                answer = await service.client.post(
                    "/v1/images/generations", json=body, headers=headers
                )
                assert answer.status_code == 200
            headers = {"Authorization": f"Bearer {secret}"}
            router = (await service.client.get("/v1/router", headers=headers)).json()
            assert f"key:{first.key_id}" in router["budgets"] and "service" in router["budgets"]
            assert f"key:{second.key_id}" not in router["budgets"]

    asyncio.run(main())


def test_requests_over_the_rate_limit_are_429_with_retry_after(root: Path) -> None:
    async def main() -> None:
        async with running_app(root, group(), rate_limit="2/minute") as service:
            statuses = [(await service.generate()).status_code for _ in range(3)]
            assert statuses == [200, 200, 429]
            response = await service.generate()
            assert response.json()["error"]["code"] == "rate_limit_exceeded"
            assert response.json()["error"]["type"] == "rate_limit_error"
            assert 1 <= int(response.headers["retry-after"]) <= 60
            assert "x-should-retry" not in response.headers
            assert (await service.client.get("/livez")).status_code == 200

    asyncio.run(main())


def test_new_requests_are_503_at_once_while_the_service_shuts_down(root: Path) -> None:
    async def main() -> None:
        async with running_app(root, group()) as service:
            service.set_draining()
            response = await service.generate()
            assert (response.status_code, response.json()["error"]["code"]) == (503, "draining")
            assert int(response.headers["retry-after"]) > 0
            ready = await service.client.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "draining")
            assert (await service.client.get("/livez")).status_code == 200

    asyncio.run(main())


def test_a_body_over_the_limit_is_413(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    overhead = len(b'{"prompt": "a"}')
    largest = b'{"prompt": "a"}' + b" " * (MAX_BODY - overhead)
    assert client.post("/v1/route", content=largest, headers=headers).status_code == 200
    response = client.post("/v1/route", content=largest + b" ", headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")


def test_a_body_without_a_length_over_the_limit_is_413(root: Path) -> None:
    read: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            read.append(1)
            yield b" " * 65536

    async def main() -> None:
        async with running_app(root, group()) as service:
            headers = {"Content-Type": "application/json"}
            response = await service.client.post("/v1/route", content=chunks(), headers=headers)
            assert response.status_code == 413 and len(read) <= MAX_BODY // 65536 + 2

    asyncio.run(main())


def test_a_slow_body_is_408(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async def main() -> None:
        async with running_app(root, group()) as service:
            headers = {"Content-Type": "application/json"}
            response = await service.client.post("/v1/route", content=chunks(), headers=headers)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (408, "request_timeout")

    monkeypatch.setattr(parsing, "BODY_SECONDS", 0.1)
    asyncio.run(main())


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_of_another_media_type_is_415(client: httpx.Client, media_type: str) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    response = client.post("/v1/route", content=b'{"prompt": "a"}', headers=headers)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("é", False)],
)
def test_request_id(client: httpx.Client, given: str, kept: bool) -> None:
    headers = {"X-Request-Id": given.encode()}
    response = client.post("/v1/route", json={"prompt": PROMPT}, headers=headers)  # type: ignore[arg-type]
    answered = response.headers["x-request-id"]
    assert (answered == given) == kept and re.fullmatch(r"[!-~]{1,128}", answered)
    assert response.json()["request_id"] == answered


def test_unknown_routes_and_methods_have_errors_in_openais_format(client: httpx.Client) -> None:
    response = client.get("/v1/" + "x" * 5000)
    assert response.status_code == 404 and len(response.content) < 400
    assert response.json()["error"]["code"] == "unknown_url"
    response = client.put("/v1/models")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_head_and_options(client: httpx.Client) -> None:
    full, head = client.get("/v1/models"), client.head("/v1/models")
    assert head.status_code == 200 and head.content == b""
    assert head.headers["content-length"] == full.headers["content-length"]
    options = client.options(GENERATIONS)
    assert (options.status_code, options.headers["allow"]) == (204, "OPTIONS, POST")
    assert client.options("/unknown").status_code == 404


def test_responses_have_security_headers(client: httpx.Client) -> None:
    for path in ("/", "/v1/models", "/unknown"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"


def test_other_origins_are_allowed_only_by_the_setting(root: Path) -> None:
    async def preflight(**settings: list[str]) -> httpx.Response:
        headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        async with running_app(root, group(), **settings) as service:
            service.backend.state.keys.create("app")
            return await service.client.options(GENERATIONS, headers=headers)

    off = asyncio.run(preflight())
    assert off.status_code == 401 and "access-control-allow-origin" not in off.headers
    on = asyncio.run(preflight(cors_origins=["https://a.example"]))
    assert on.status_code == 200
    assert on.headers["access-control-allow-origin"] == "https://a.example"


def test_an_unexpected_exception_is_a_500_without_details(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("a secret prompt")

    async def main() -> None:
        async with running_app(root, group()) as service:
            service.backend.core.models = fail  # type: ignore[assignment,method-assign]
            response = await service.client.get("/v1/models")
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (500, "internal_error")
            assert "secret" not in response.text

    asyncio.run(main())
    assert "secret" not in caplog.text and "RuntimeError" in caplog.text
