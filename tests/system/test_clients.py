"""The examples of docs/clients.md with the real clients, and schemathesis on the document."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.system.running_service import ROOT, RunningService, create_key, serve

pytestmark = pytest.mark.system

EXAMPLES = ROOT / "docs" / "examples"
OPENAI_NODE = "openai@6.30.1"


@pytest.fixture(scope="module", params=["without keys", "with a key"])
def environment(
    request: pytest.FixtureRequest, packaged: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The variables that the examples read."""
    home = tmp_path_factory.mktemp("clients")
    with serve(packaged, home) as service:
        variables = {"CATIMAGE_URL": service.url}
        if request.param == "with a key":
            variables["CATIMAGE_API_KEY"] = create_key(packaged, service.env)["secret"]
        yield {**os.environ, **variables, "NO_PROXY": "127.0.0.1"}


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run an example in a folder; return its output."""
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def check_image(path: Path) -> None:
    with Image.open(path) as image:
        assert image.size == (64, 64)


def test_curl(environment: dict[str, str], tmp_path: Path) -> None:
    output = run(["bash", str(EXAMPLES / "curl.sh")], tmp_path, environment)
    assert "candidate mini-1" in output and "routed mini-" in output
    assert output.count("image_generation.completed") == 1
    check_image(tmp_path / "curl.png")


def test_openai_python(environment: dict[str, str], tmp_path: Path) -> None:
    output = run([sys.executable, str(EXAMPLES / "openai_python.py")], tmp_path, environment)
    assert "pinned mini-1" in output and "model mini-1" in output
    assert "event image_generation.completed" in output
    assert "error background" in output
    check_image(tmp_path / "openai_python_1.png")


def test_the_client_of_catimage(environment: dict[str, str], tmp_path: Path) -> None:
    output = run([sys.executable, str(EXAMPLES / "catimage_client.py")], tmp_path, environment)
    assert "wrote 7.png 8.png" in output and "size (64, 64)" in output
    assert "finished" in output and "job 4 images" in output
    check_image(tmp_path / "8.png")


def test_openai_node(environment: dict[str, str], tmp_path: Path, node: str) -> None:
    shutil.copy(EXAMPLES / "openai_node.mjs", tmp_path)
    install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", OPENAI_NODE]
    run(install, tmp_path, dict(os.environ))
    output = run([node, "openai_node.mjs"], tmp_path, environment)
    assert "candidate mini-1" in output and "error background" in output
    assert "event image_generation.completed" in output
    check_image(tmp_path / "openai_node.png")


def test_schemathesis_finds_no_server_error_and_no_undeclared_answer(
    environment: dict[str, str], tmp_path: Path
) -> None:
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_schema_conformance,response_headers_conformance"
    )
    key = environment.get("CATIMAGE_API_KEY")
    header = ["--header", f"Authorization: Bearer {key}"] if key else []
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{environment['CATIMAGE_URL']}/openapi.json",
        *("--checks", checks, "--max-examples", "15", "--max-time", "120", "--seed", "1"),
        *("--phases", "examples,coverage,fuzzing", "--request-timeout", "30", *header),
    ]
    run(command, tmp_path, environment)


def test_the_log_of_the_service_has_no_errors(packaged: Path, tmp_path: Path) -> None:
    """Invalid requests of all kinds are no errors of the service."""
    with serve(packaged, tmp_path) as service:
        _invalid_requests(service)
        assert "Traceback" not in service.log()


def _invalid_requests(service: RunningService) -> None:
    bodies: list[object] = [[], {"prompt": ""}, {"prompt": 3}, {"prompt": "a", "n": 11}]
    with service.client() as client:
        for body in bodies:
            assert client.post("/v1/images/generations", json=body).status_code == 400
        assert client.get("/v1/models/none").status_code == 404
        assert client.get("/nowhere").status_code == 404
        assert client.request("OPTIONS", "/v1/models").status_code < 500
