"""The packaged Bento as a real ``bentoml serve`` process, over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai import BadRequestError, OpenAI
from PIL import Image

from catimage.params import load_params
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.router import Router
from catimage.workspace import Workspace

PROMPT = "crowded amber basil number 4"
MESSAGE = r"[^:\n]+: [^\n]+\. [A-Z][^\n]+\."
"""The form of all messages, ``<field>: <problem>. <fix>.``"""


@pytest.fixture(scope="module")
def url(packaged: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the exported folder from another folder, with an empty BentoML store."""
    folder = tmp_path_factory.mktemp("other")
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        str(packaged / "dist" / "bento"),
        "--port",
        str(port),
    ]
    env = {**os.environ, "BENTOML_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    env.pop("CATIMAGE_WORKSPACE", None)
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the service is ready."""
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=60).status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.2)
    pytest.fail(f"the service did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def router(packaged: Path) -> Router:
    return Router.load(Workspace(packaged).router)


def pixels(image: str) -> np.ndarray:
    """Return the pixels of a base64-encoded image."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB"))


def test_route_returns_the_decision_of_the_router(url: str, router: Router) -> None:
    for body in ({}, {"budget": 2.0}, {"lambda": 0.0}, {"lambda": 100.0}):
        options = {"lam": body.get("lambda"), "budget": body.get("budget"), "seed": 7}
        expected = router.route([PROMPT], **options)[0]
        response = httpx.post(f"{url}/v1/route", json={"prompt": PROMPT, "seed": 7, **body}).json()
        assert (response["candidate"], response["cost"], response["lambda"]) == (
            expected.candidate,
            expected.cost,
            expected.lam,
        )
        assert response["predicted_quality"] == pytest.approx(expected.predicted_quality)
        qualities = {c["candidate"]: c["predicted_quality"] for c in response["candidates"]}
        assert qualities == pytest.approx(expected.qualities)
        assert (response["metric"], response["cost_unit"], response["estimator"]) == (
            "clip_score",
            "tflops",
            "knn",
        )


def test_requests_are_divided_between_two_lambdas_and_repeated_by_a_seed_or_an_id(url: str) -> None:
    """The rule of this budget has two lambdas; a prompt that is repeated uses both of them."""
    body = {"prompt": PROMPT, "budget": 2.0}

    def lambda_of(request: dict[str, Any], request_id: str | None = None) -> float:
        headers = {} if request_id is None else {"X-Request-Id": request_id}
        response = httpx.post(f"{url}/v1/route", json=body | request, headers=headers)
        return float(response.json()["lambda"])

    assert len({lambda_of({}) for _ in range(60)}) == 2
    assert len({lambda_of({}, f"request {i}") for i in range(60)}) == 2
    for seed in range(3):
        assert len({lambda_of({"seed": seed}, str(i)) for i in range(8)}) == 1
        assert len({lambda_of({}, f"request {seed}") for _ in range(8)}) == 1


def test_small_budget_selects_a_cheaper_candidate(url: str) -> None:
    costs = [
        httpx.post(f"{url}/v1/route", json={"prompt": PROMPT, "budget": b}).json()["cost"]
        for b in (1.001, 4.0)
    ]
    assert costs == [1.0, 4.0]


def test_images_of_the_service_equal_those_of_the_generator(url: str, packaged: Path) -> None:
    response = httpx.post(
        f"{url}/v1/images/generations",
        json={"prompt": PROMPT, "budget": 4.0, "n": 2, "seed": 7, "size": "64x64"},
        timeout=60,
    )
    body = response.json()
    assert body["catimage"]["candidate"] == "mini-4" and body["catimage"]["seed"] == 7
    pool = load_pool(load_params(packaged / "params.yaml").pool)
    expected = (
        kind_of(pool.generators["mini"], pool.folder)
        .load(DeviceMemory("cpu"))
        .generate([PROMPT] * 2, pool.candidate("mini-4"), [7, 8])
    )
    for image, expected_pixels in zip(body["data"], expected, strict=True):
        assert np.abs(pixels(image["b64_json"]).astype(int) - expected_pixels).max() <= 2
    assert not np.array_equal(*(pixels(i["b64_json"]) for i in body["data"]))


def test_openai_client_generates_images_and_lists_models(url: str) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
    result = client.images.generate(model="catimage", prompt=PROMPT, extra_body={"budget": 1.001})
    assert pixels(result.data[0].b64_json).shape == (64, 64, 3)
    decision = result.model_extra["catimage"]
    assert decision["candidate"] == "mini-1" and 0 <= decision["seed"] < 2**31
    candidate_decision = client.images.generate(
        model="mini-2", prompt=PROMPT, n=3, response_format="b64_json"
    ).model_extra["catimage"]
    assert [candidate_decision[key] for key in ("candidate", "cost", "lambda")] == [
        "mini-2",
        2.0,
        None,
    ]
    assert [m.id for m in client.models.list()] == ["catimage", "mini-1", "mini-2", "mini-4"]
    with pytest.raises(BadRequestError, match="below the cost of the cheapest") as error:
        client.images.generate(model="catimage", prompt=PROMPT, extra_body={"budget": 0.5})
    assert (error.value.param, error.value.type) == ("budget", "invalid_request_error")


def test_models_of_candidates_have_costs(url: str) -> None:
    rows = httpx.get(f"{url}/v1/models").json()["data"]
    assert [(r["id"], r.get("cost"), r["object"]) for r in rows][1:] == [
        (f"mini-{n}", float(n), "model") for n in (1, 2, 4)
    ]


INVALID_BODIES: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": " \n"}, "prompt"),
    ({"prompt": "a" * 100_000}, "prompt"),
    ({"prompt": 3}, "prompt"),
    ({"prompt": PROMPT, "n": 0}, "n"),
    ({"prompt": PROMPT, "n": 11}, "n"),
    ({"prompt": PROMPT, "n": "2"}, "n"),
    ({"prompt": PROMPT, "n": True}, "n"),
    ({"prompt": PROMPT, "size": "1024x1024"}, "size"),
    ({"prompt": PROMPT, "size": "large"}, "size"),
    ({"prompt": PROMPT, "response_format": "url"}, "response_format"),
    ({"prompt": PROMPT, "budget": -1}, "budget"),
    ({"prompt": PROMPT, "budget": 0.5}, "budget"),
    ({"prompt": PROMPT, "budget": "40%"}, "budget"),
    ({"prompt": PROMPT, "budget": 2, "lambda": 0.1}, "budget"),
    ({"prompt": PROMPT, "lambda": -0.1}, "lambda"),
    ({"prompt": PROMPT, "seed": -1}, "seed"),
    ({"prompt": PROMPT, "model": "dall-e-3"}, "model"),
    ({"prompt": PROMPT, "model": "mini-1", "budget": 2}, "model"),
    ({"prompt": PROMPT, "quality": "hd"}, "quality"),
]


@pytest.mark.parametrize(("body", "param"), INVALID_BODIES)
def test_response_to_an_invalid_field_is_a_400_with_the_name_of_the_field(
    url: str, body: dict[str, Any], param: str
) -> None:
    response = httpx.post(f"{url}/v1/images/generations", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (
        400,
        "invalid_request_error",
        param,
    )
    assert 10 < len(error["message"]) < 300 and error["code"]
    assert re.fullmatch(MESSAGE, error["message"])


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b'{"prompt": "a", "lambda": NaN}']
)
def test_response_to_a_body_that_is_not_a_json_object_is_a_400(url: str, body: bytes) -> None:
    response = httpx.post(f"{url}/v1/route", content=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert re.fullmatch(MESSAGE, error["message"])


def test_response_to_a_too_large_body_is_a_413(url: str) -> None:
    large = json.dumps({"prompt": "a" * 2_000_000}).encode()
    for content in (large, iter([large[:1_000_000], large[1_000_000:]])):
        response = httpx.post(f"{url}/v1/images/generations", content=content)
        assert (response.status_code, response.json()["error"]["code"]) == (
            413,
            "request_too_large",
        )


def test_responses_for_other_paths_and_methods_are_404s(url: str) -> None:
    for response in (
        httpx.get(f"{url}/v1/unknown"),
        httpx.get(f"{url}/v1/route"),
        httpx.delete(f"{url}/v1/models"),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")
        assert re.fullmatch(MESSAGE, response.json()["error"]["message"])


def test_response_to_an_unsupported_method_is_a_405_with_the_supported_methods(url: str) -> None:
    response = httpx.options(f"{url}/v1/route")
    error = response.json()["error"]
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert (error["code"], error["type"]) == ("method_not_allowed", "invalid_request_error")
    assert error["message"].startswith("/v1/route: Method Not Allowed. Use one of GET /v1/models")
