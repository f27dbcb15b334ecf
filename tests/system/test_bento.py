"""The Bento in an environment made from its own lock, outside the repository."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from benchmarks.serving.processes import free_port
from openai import OpenAI

from tests.readiness import wait_until_ready

UV = shutil.which("uv") or str(Path(sys.executable).parent / "uv")


@pytest.fixture(scope="module")
def environment() -> Iterator[Path]:
    """An empty folder with a short path, for the environment and the store of BentoML."""
    with TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def python(packaged: Path, environment: Path) -> Path:
    """The Python of a virtual environment with the packages of the Bento, and no others."""
    folder = packaged / "dist" / "bento" / "env" / "python"
    run = {"check": True, "cwd": folder, "env": clean_variables(environment)}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run([UV, "venv", "--python", version, str(environment / "venv")], **run)
    path = environment / "venv" / "bin" / "python"
    install = [UV, "pip", "install", "--python", str(path), "-r", "requirements.txt"]
    subprocess.run(install, **run)  # as in the Dockerfile of BentoML
    return path


def clean_variables(folder: Path) -> dict[str, str]:
    """Return an environment without the variables and the virtual environment of the tests."""
    dropped = ("CATIMAGE_", "VIRTUAL_ENV", "PYTHONPATH", "BENTOML_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return kept | {"BENTOML_HOME": str(folder / "store"), "CATIMAGE_HOME": str(folder / "home")}


def test_the_environment_has_the_code_of_the_bento_only(python: Path, environment: Path) -> None:
    script = "import catimage, sklearn; print(catimage.__file__, sklearn.__version__)"
    run = subprocess.run(
        [str(python), "-c", script],
        cwd=environment,
        env=clean_variables(environment),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith(str(environment / "venv"))
    import sklearn

    assert run.stdout.split()[1] == sklearn.__version__


def test_the_stored_bento_answers_the_openai_client(
    python: Path, packaged: Path, environment: Path
) -> None:
    variables = clean_variables(environment) | {"OMP_NUM_THREADS": "1"}
    document = json.loads((packaged / "dist" / "bento.json").read_text())
    name, version = document["tag"].split(":")
    bento = environment / "store" / "bentos" / name / version
    shutil.copytree(packaged / "dist" / "bento", bento)
    port = free_port()
    command = [str(python), "-m", "bentoml", "serve", document["tag"], "--port", str(port)]
    log = environment / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=environment, env=variables, stdout=file, stderr=file
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process, log, 120)
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
        result = client.images.generate(model="auto", prompt="crowded amber basil", n=2)
        assert [base64.b64decode(i.b64_json)[:4] for i in result.data] == [b"\x89PNG"] * 2
        events = client.images.generate(
            model="auto", prompt="crowded amber basil", stream=True, partial_images=1
        )
        assert [event.type for event in events][-1] == "image_generation.completed"
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        assert time.monotonic() - started < 20
    finally:
        process.kill()
