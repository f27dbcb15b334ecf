"""A real Prefect server and a worker, for the system tests of the flows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks.serving.processes import free_port, start_python

from tests.system.programs import accepts, wait_until

ROOT = Path(__file__).parents[2]
FAKE_STAGE = ROOT / "tests" / "flows" / "fake_stage.py"


def own_environment(folder: Path) -> dict[str, str]:
    """Return the environment of processes whose settings and databases of Prefect are in a folder.

    It has no address of a server, so that a flow starts its own.
    """
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))},
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


class Prefect:
    """A Prefect server with its own database.

    Attributes:
        url: the address of its API.
        environment: the environment of processes that use the server.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **own_environment(folder),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "2",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            **environment,
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the server, and wait until it responds."""
        self.process("server", "-m", "prefect", "server", "start", "--port", str(self.port))
        wait_until(lambda: accepts(self.port) and self._is_healthy(), "prefect server", 180)

    def _is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def process(self, log: str, *arguments: str, folder: Path = ROOT) -> subprocess.Popen[bytes]:
        """Start Python with arguments; its output is appended to ``<log>.log``."""
        output = self.folder / f"{log}.log"
        process = start_python(arguments, folder, self.environment, output)
        self._processes.append(process)
        return process

    def log(self, name: str) -> str:
        """Return what the processes with a log have printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def post(self, path: str, content: object = None) -> Any:
        """Send a request to the API; return the answer."""
        for _ in range(10):
            response = httpx.post(f"{self.url}{path}", json=content or {}, timeout=30)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:  # a busy SQLite database
                break
            time.sleep(0.5)
        response.raise_for_status()
        return response.json() if response.content else None

    def get(self, path: str) -> Any:
        """Read an object of the API."""
        response = httpx.get(f"{self.url}{path}", timeout=30)
        response.raise_for_status()
        return response.json()

    def run(self, deployment: str, **parameters: object) -> str:
        """Start a run of a deployment; return its identifier."""
        identifier = self.get(f"/deployments/name/{deployment}")["id"]
        run = self.post(
            f"/deployments/{identifier}/create_flow_run",
            {"parameters": parameters, "state": {"type": "SCHEDULED"}},
        )
        return str(run["id"])

    def state(self, run: str) -> str:
        """Return the name of the state of a run."""
        return str(self.get(f"/flow_runs/{run}")["state"]["name"])

    def wait_state(self, run: str, *names: str, seconds: float = 180.0) -> None:
        """Wait until a run has one of some states."""
        wait_until(lambda: self.state(run) in names, f"{names} of the run", seconds)

    def slots(self, deployment: str) -> int:
        """Return the occupied concurrency slots of a deployment."""
        limit = self.get(f"/deployments/name/{deployment}")["global_concurrency_limit"]
        return int(limit["active_slots"])

    def stop(self) -> None:
        """Stop all processes."""
        for process in reversed(self._processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(10)


def fake_project(folder: Path, prepared: Path) -> Path:
    """Create a git repository with this project's pipeline and flows.

    The commands of the stages are replaced by :mod:`tests.flows.fake_stage`, which copies the
    outputs in ``prepared``. The check of the parameters, which loads models, is left out.
    """
    folder.mkdir()
    command = f"cmd: {sys.executable} {FAKE_STAGE} {prepared}"
    pipeline = (ROOT / "dvc.yaml").read_text()
    (folder / "dvc.yaml").write_text(pipeline.replace("cmd: PYTHONPATH=src catimage", command))
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
    shutil.copytree(ROOT / "flows", folder / "flows")
    (folder / "flows" / "preflight.py").write_text("def check_parameters(workspace):\n    pass\n")
    names = (".dvc/config", ".dvc/.gitignore", ".gitignore", ".dvcignore", "prefect.yaml")
    for name in names:
        shutil.copy(ROOT / name, folder / name)
    shutil.copy(prepared / "params.yaml", folder / "params.yaml")
    shutil.copytree(prepared / "pools", folder / "pools")
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


@contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """Run an HTTP server; yield its address, and the texts of the requests that it gets."""
    texts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            texts.append(str(json.loads(body)["text"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", texts
    server.shutdown()
    thread.join()
    server.server_close()


def find(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Wait for a value that is not empty, and return it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {seconds:g} seconds")
        time.sleep(0.1)
    return value
