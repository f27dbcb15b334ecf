"""Parsing of request bodies and error responses, without a BentoML service."""

from __future__ import annotations

import pytest
from bentos.api import MAX_BODY, ApiError, ImagesRequest, on_error, parse_body
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient


async def echo(request: Request) -> JSONResponse:
    return JSONResponse((await parse_body(request, ImagesRequest)).model_dump(by_alias=True))


async def raise_error(_: Request) -> JSONResponse:
    raise RuntimeError("a secret")


@pytest.fixture(scope="module")
def client() -> TestClient:
    routes = [Route("/echo", echo, methods=["POST"]), Route("/fails", raise_error)]
    return TestClient(
        Starlette(routes=routes, exception_handlers={ApiError: on_error, Exception: on_error}),
        raise_server_exceptions=False,
    )


def test_omitted_fields_have_defaults(client: TestClient) -> None:
    expected = {
        "prompt": "é ñ",
        "budget": None,
        "lambda": 2.0,
        "model": "catimage",
        "n": 1,
        "size": "auto",
    }
    assert client.post("/echo", json={"prompt": "é ñ", "lambda": 2}).json() == expected | {
        "response_format": "b64_json",
        "seed": None,
    }


def test_unexpected_exception_is_a_500_without_details(client: TestClient) -> None:
    response = client.get("/fails")
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    assert "secret" not in response.text


def test_body_over_the_size_limit_is_a_413(client: TestClient) -> None:
    overhead = len('{"prompt": ""}')
    largest = '{"prompt": "' + "a" * (MAX_BODY - overhead) + '"}'
    assert client.post("/echo", content=largest).status_code == 200
    assert client.post("/echo", content=largest + " ").status_code == 413


def test_lam_is_not_a_field_of_a_request(client: TestClient) -> None:
    assert client.post("/echo", json={"prompt": "a", "lam": 1.0}).json()["error"]["param"] == "lam"
