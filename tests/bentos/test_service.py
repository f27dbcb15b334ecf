"""The packaged Bento as a real ``bentoml serve`` process, outside the repository, over HTTP."""

from __future__ import annotations

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from openai import OpenAI
from PIL import Image

from catimage.params import load_params
from catimage.pool.device_memory import DeviceMemory
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_of
from catimage.router import Router
from catimage.workspace import Workspace
from tests.readiness import wait_until_ready

PROMPT = "crowded amber basil number 4"


class Service:
    """A running service.

    Attributes:
        url: its address.
        process: the supervisor.
    """

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url, self.process, self._log = url, process, log

    def wait_ready(self, seconds: float) -> None:
        wait_until_ready(self.url, self.process, self._log, seconds)

    def worker(self, name: str) -> psutil.Process:
        """Return the process of a service of the Bento."""
        workers = psutil.Process(self.process.pid).children()
        return next(w for w in workers if name in w.cmdline())

    def generate(self, **body: Any) -> dict[str, Any]:
        response = httpx.post(f"{self.url}/v1/images/generations", json=body, timeout=60)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document


@pytest.fixture(scope="module")
def service(packaged: Path) -> Iterator[Service]:
    """Serve the exported folder from another folder, with an empty BentoML store."""
    with TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with socket.socket() as free_socket:
            free_socket.bind(("127.0.0.1", 0))
            port = free_socket.getsockname()[1]
        bento = str(packaged / "dist" / "bento")
        command = [sys.executable, "-m", "bentoml", "serve", bento, "--port", str(port)]
        variables = {"BENTOML_HOME": name, "CATIMAGE_HOME": name, "OMP_NUM_THREADS": "1"}
        env = {k: v for k, v in os.environ.items() if not k.startswith("CATIMAGE_")} | variables
        log = folder / "log"
        with log.open("w") as file:
            process = subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=file)
        running = Service(f"http://127.0.0.1:{port}", process, log)
        try:
            running.wait_ready(120)
            yield running
        finally:
            process.terminate()
            process.wait(timeout=30)


def pixels(image: str) -> np.ndarray:
    """Return the pixels of a base64-encoded image."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB"))


def test_route_returns_the_decision_of_the_router(service: Service, packaged: Path) -> None:
    router = Router.load(Workspace(packaged).router)
    for lam in (0.0, 100.0):
        expected = router.route([PROMPT], lam=lam, seed=7)[0]
        body = {"prompt": PROMPT, "lambda": lam, "seed": 7}
        response = httpx.post(f"{service.url}/v1/route", json=body).json()
        assert (response["candidate"], response["cost"]) == (expected.candidate, expected.cost)
        assert response["predicted_quality"] == pytest.approx(expected.predicted_quality)


def test_images_of_the_service_equal_those_of_the_generator(
    service: Service, packaged: Path
) -> None:
    body = service.generate(prompt=PROMPT, model="mini-4", n=2, seed=7, size="64x64")
    assert body["catimage"]["candidate"] == "mini-4" and body["catimage"]["seed"] == 7
    pool = load_pool(load_params(packaged / "params.yaml").pool)
    kind = kind_of(pool.generators["mini"], pool.folder)
    generator = kind.load(DeviceMemory("cpu"))
    expected = generator.generate([PROMPT] * 2, pool.candidate("mini-4"), [7, 8])
    for image, expected_pixels in zip(body["data"], expected, strict=True):
        assert np.abs(pixels(image["b64_json"]).astype(int) - expected_pixels).max() <= 1
    assert not np.array_equal(*(pixels(i["b64_json"]) for i in body["data"]))


def test_openai_client_generates_images_and_lists_models(service: Service) -> None:
    client = OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=60)
    result = client.images.generate(model="auto", prompt=PROMPT, quality="low")
    assert pixels(result.data[0].b64_json).shape == (64, 64, 3)
    assert result.model_extra["catimage"]["candidate"] in ("mini-1", "mini-2", "mini-4")
    assert {"mini-1", "mini-2", "mini-4"} < {m.id for m in client.models.list()}


def test_all_routes_are_those_of_the_application(service: Service) -> None:
    """The routes, the metrics and the page of BentoML are not reachable."""
    document = httpx.get(f"{service.url}/openapi.json").json()
    assert "/v1/images/generations" in document["paths"]
    assert httpx.get(f"{service.url}/docs.json").status_code == 404
    assert httpx.get(f"{service.url}/schema.json").status_code == 404
    assert "catimage_requests_total" in httpx.get(f"{service.url}/metrics").text
    assert "bentoml" not in httpx.get(service.url).text.lower()


@pytest.mark.system
def test_a_killed_generator_process_is_replaced(service: Service) -> None:
    before = service.generate(prompt=PROMPT, model="mini-2", seed=3)["data"]
    killed = service.worker("generators")
    killed.send_signal(signal.SIGKILL)
    psutil.wait_procs([killed], timeout=5)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        body = {"prompt": PROMPT, "model": "mini-2", "seed": 3}
        response = httpx.post(f"{service.url}/v1/images/generations", json=body, timeout=60)
        assert response.status_code in (200, 503)
        if response.status_code == 200:
            break
        time.sleep(0.2)
    assert response.json()["data"] == before
    assert service.worker("generators").pid != killed.pid
