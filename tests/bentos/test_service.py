"""The packaged Bento as a real ``bentoml serve`` process, over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
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


@pytest.fixture(scope="module")
def url(packaged: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serves the exported folder from elsewhere, with an empty store: nothing but that folder can
    be in use.
    """
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        str(packaged / "dist" / "bento"),
        "--port",
        str(port),
    ]
    env = {**os.environ, "BENTOML_HOME": str(elsewhere), "OMP_NUM_THREADS": "1"}
    env.pop("CATIMAGE_WORKSPACE", None)
    with (
        (elsewhere / "log").open("w") as log,
        subprocess.Popen(command, cwd=elsewhere, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}", process, elsewhere / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it is ready; no answer may take longer than the probe's two seconds and a bit."""
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
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB"))


def test_route_says_what_the_router_says(url: str, router: Router) -> None:
    for given in ({}, {"budget": 2.0}, {"lambda": 0.0}, {"lambda": 100.0}):
        expected = router.route([PROMPT], lam=given.get("lambda"), budget=given.get("budget"))[0]
        answer = httpx.post(f"{url}/v1/route", json={"prompt": PROMPT, **given}).json()
        assert (answer["candidate"], answer["cost"], answer["lambda"]) == (
            expected.candidate,
            expected.cost,
            expected.lam,
        )
        assert answer["predicted_quality"] == pytest.approx(expected.predicted_quality)
        found = {c["candidate"]: c["predicted_quality"] for c in answer["candidates"]}
        assert found == pytest.approx(expected.qualities)
        assert (answer["metric"], answer["cost_unit"], answer["estimator"]) == (
            "clip_score",
            "tflops",
            "knn",
        )


def test_a_small_budget_buys_a_cheaper_candidate(url: str) -> None:
    costs = [
        httpx.post(f"{url}/v1/route", json={"prompt": PROMPT, "budget": b}).json()["cost"]
        for b in (1.001, 4.0)
    ]
    assert costs == [1.0, 4.0]


def test_images_are_the_generators_own(url: str, packaged: Path) -> None:
    answer = httpx.post(
        f"{url}/v1/images/generations",
        json={"prompt": PROMPT, "budget": 4.0, "n": 2, "seed": 7, "size": "64x64"},
        timeout=60,
    )
    body = answer.json()
    assert body["catimage"]["candidate"] == "mini-4" and body["catimage"]["seed"] == 7
    pool = load_pool(load_params(packaged / "params.yaml").pool)
    expected = (
        kind_of(pool.generators["mini"], pool.folder)
        .load(DeviceMemory("cpu"))
        .generate([PROMPT] * 2, pool.candidate("mini-4"), [7, 8])
    )
    for image, wanted in zip(body["data"], expected, strict=True):
        assert np.abs(pixels(image["b64_json"]).astype(int) - wanted).max() <= 2
    assert not np.array_equal(*(pixels(i["b64_json"]) for i in body["data"]))


def test_the_openai_client_works(url: str) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
    made = client.images.generate(model="catimage", prompt=PROMPT, extra_body={"budget": 1.001})
    assert pixels(made.data[0].b64_json).shape == (64, 64, 3)
    decided = made.model_extra["catimage"]
    assert decided["candidate"] == "mini-1" and 0 <= decided["seed"] < 2**31
    forced = client.images.generate(
        model="mini-2", prompt=PROMPT, n=3, response_format="b64_json"
    ).model_extra["catimage"]
    assert (forced["candidate"], forced["cost"], forced["lambda"]) == ("mini-2", 2.0, None)
    assert [m.id for m in client.models.list()] == ["catimage", "mini-1", "mini-2", "mini-4"]
    with pytest.raises(BadRequestError, match="below the cheapest") as refused:
        client.images.generate(model="catimage", prompt=PROMPT, extra_body={"budget": 0.5})
    assert (refused.value.param, refused.value.type) == ("budget", "invalid_request_error")


def test_models_have_costs(url: str) -> None:
    rows = httpx.get(f"{url}/v1/models").json()["data"]
    assert [(r["id"], r.get("cost"), r["object"]) for r in rows][1:] == [
        (f"mini-{n}", float(n), "model") for n in (1, 2, 4)
    ]


BAD: list[tuple[dict[str, Any], str]] = [
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


@pytest.mark.parametrize(("body", "param"), BAD)
def test_a_bad_field_is_a_400_that_names_it(url: str, body: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{url}/v1/images/generations", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (
        400,
        "invalid_request_error",
        param,
    )
    assert 10 < len(error["message"]) < 300 and error["code"] and "\n" not in error["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b'{"prompt": "a", "lambda": NaN}']
)
def test_a_body_that_is_no_json_object_is_a_400(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}/v1/route", content=body)
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_too_large_is_a_413_however_it_is_sent(url: str) -> None:
    large = json.dumps({"prompt": "a" * 2_000_000}).encode()
    for content in (large, iter([large[:1_000_000], large[1_000_000:]])):
        answer = httpx.post(f"{url}/v1/images/generations", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_other_paths_and_methods_are_404s_in_the_same_shape(url: str) -> None:
    for answer in (
        httpx.get(f"{url}/v1/nothing"),
        httpx.get(f"{url}/v1/route"),
        httpx.delete(f"{url}/v1/models"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
