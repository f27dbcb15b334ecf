"""Requests and errors without a server behind them."""

from __future__ import annotations

import pytest
from bentos.api import MAX_BODY, ApiError, ImagesRequest, on_error, read
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient


async def echo(request: Request) -> JSONResponse:
    return JSONResponse((await read(request, ImagesRequest)).model_dump(by_alias=True))


async def breaks(_: Request) -> JSONResponse:
    raise RuntimeError("a secret")


@pytest.fixture(scope="module")
def client() -> TestClient:
    routes = [Route("/echo", echo, methods=["POST"]), Route("/breaks", breaks)]
    return TestClient(
        Starlette(routes=routes, exception_handlers={ApiError: on_error, Exception: on_error}),
        raise_server_exceptions=False,
    )


def test_what_is_left_out_has_defaults(client: TestClient) -> None:
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


def test_what_nobody_foresaw_is_a_500_without_its_details(client: TestClient) -> None:
    answer = client.get("/breaks")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert "secret" not in answer.text


def test_the_limit_of_a_body_is_exact(client: TestClient) -> None:
    frame = len('{"prompt": ""}')
    whole = '{"prompt": "' + "a" * (MAX_BODY - frame) + '"}'
    assert client.post("/echo", content=whole).status_code == 200
    assert client.post("/echo", content=whole + " ").status_code == 413


def test_our_own_name_of_lambda_is_no_field(client: TestClient) -> None:
    assert client.post("/echo", json={"prompt": "a", "lam": 1.0}).json()["error"]["param"] == "lam"
