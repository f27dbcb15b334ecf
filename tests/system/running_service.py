"""A real service of the miniature pool: ``bentoml serve`` of the packaged Bento."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from benchmarks.serving.load import Call, Load, closed_loop
from benchmarks.serving.processes import ServerProcess, free_port
from benchmarks.serving.services import pixels

ROOT = Path(__file__).parents[2]
PROMPT = "crowded amber basil number 4"
LONG_PROMPT = ", ".join(f"crowded amber basil cedar number {i}" for i in range(60))
"""More than 40 tokens, and more than the context of the text encoder."""
CHEAPEST, MIDDLE, MOST_EXPENSIVE = "mini-1", "mini-2", "mini-4"
GENERATIONS, ROUTE, JOBS = "/v1/images/generations", "/v1/route", "/v1/images/jobs"


@dataclass
class RunningService:
    """A service.

    Attributes:
        process: its processes.
        port: its port.
        home: folder of its log and of its default state.
        env: environment variables that it was started with.
    """

    process: ServerProcess
    port: int
    home: Path
    env: Mapping[str, str]

    @property
    def url(self) -> str:
        """The URL without a path."""
        return self.process.url

    def client(self, key: str | None = None, timeout: float = 60.0) -> httpx.Client:
        """Return an HTTP client of this service."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=False)

    def log(self) -> str:
        """Return the output of the service."""
        return self.process.log.read_text()


@contextmanager
def serve(
    packaged: Path,
    home: Path,
    env: Mapping[str, str] | None = None,
    port: int | None = None,
    wait: bool = True,
) -> Iterator[RunningService]:
    """Serve the packaged Bento from ``home``, with an empty store of BentoML.

    Args:
        packaged: the packaged workspace.
        home: the working directory, and the folder of the state.
        env: variables that are added to the environment.
        port: the port; by default a free one.
        wait: whether to wait until the service is ready.
    """
    home.mkdir(exist_ok=True)
    port = port or free_port()
    variables = {
        "CATIMAGE_STATE_URL": f"sqlite:///{home / 'state.db'}",
        "CATIMAGE_HOME": str(home),
        "BENTOML_HOME": str(home / "bentoml"),
        "OMP_NUM_THREADS": "1",
        **(env or {}),
    }
    bento = str(packaged / "dist" / "bento")
    command = [sys.executable, "-m", "bentoml", "serve", bento, "--port", str(port)]
    with ServerProcess(command, port, home, variables) as process:
        if wait:
            process.wait_ready(180)
        yield RunningService(process, port, home, variables)


def images_call(prompt: str = PROMPT, **fields: Any) -> Call:
    """Return a request for images."""
    return Call(GENERATIONS, {"prompt": prompt, **fields}, int(fields.get("n", 1)))


def run_load(service: RunningService, calls: Any, clients: int, **options: Any) -> Load:
    """Send requests in a closed loop."""
    return asyncio.run(closed_loop(service.url, iter(calls), clients, **options))


def create_key(packaged: Path, service_env: Mapping[str, str], *options: str) -> dict[str, Any]:
    """Create an API key with ``catimage keys create``; return its id, name and secret."""
    command = ["keys", "create", "test", "--json", "--workspace", str(packaged), *options]
    run = subprocess.run(
        [sys.executable, "-m", "catimage.cli.app", *command],
        env={**os.environ, **service_env},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def difference(first: bytes, second: bytes) -> int:
    """Return the largest difference of two encoded images in grey levels."""
    return int(np.abs(pixels(first).astype(int) - pixels(second).astype(int)).max())
