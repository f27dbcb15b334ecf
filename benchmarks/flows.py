"""Time of the flow ``retrain`` that is not the time of its stages, with a running Prefect server.

The flow runs in a copy of this project with few prompts: first all stages, then with nothing to do.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import yaml

from benchmarks.measure import Row, seconds
from benchmarks.project import copy_project

PROMPTS = 100
"""Number of captions; similar ones are omitted, as in the demo."""
ALL_STAGES, UP_TO_DATE = 60.0, 20.0
"""Targets in seconds: the flow without its stages, and the flow with nothing to do."""
START_SECONDS = 180.0
"""Longest time of the start of the server."""
TIME_STAGE = """
import pathlib, subprocess, sys, time
start = time.perf_counter()
status = subprocess.run([sys.executable, "-m", "catimage.cli.app", sys.argv[1]]).returncode
with pathlib.Path("stage_times").open("a") as file:
    file.write(f"{time.perf_counter() - start}\\n")
sys.exit(status)
"""
"""A script that runs a stage, and appends its wall-clock time to a file."""


def rows() -> list[Row]:
    """Run all stages once, then the flow with nothing to do."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "project"
        folder.mkdir()
        _create_project(folder)
        with _server(Path(name)) as environment:
            environment["PYTHONPATH"] = str(folder / "src")
            start = time.perf_counter()
            _retrain(folder, environment)
            full = time.perf_counter() - start
            stages = sum(map(float, (folder / "stage_times").read_text().split()))
            idle = seconds(lambda: _retrain(folder, environment), 3)
    subject = f"flow `retrain`, all stages, {PROMPTS} captions"
    return [
        Row(
            f"{subject}: without its stages",
            f"{full - stages:.1f} s",
            f"{stages:.1f} s (the stages)",
            target=f"{ALL_STAGES:g} s",
        ),
        Row("flow `retrain` with nothing to do", f"{idle:.1f} s", target=f"{UP_TO_DATE:g} s"),
    ]


def _create_project(folder: Path) -> None:
    """Copy this project; its stages write their times, and have few prompts."""
    (folder / "time_stage.py").write_text(TIME_STAGE)
    copy_project(folder, lambda stage, _: f"{sys.executable} time_stage.py {stage}")
    path = folder / "params.yaml"
    params: dict[str, Any] = yaml.safe_load(path.read_text())
    params["sample"]["sources"] = [{"kind": "scenes", "count": PROMPTS}]
    path.write_text(yaml.safe_dump(params))


def _retrain(folder: Path, environment: Mapping[str, str]) -> None:
    """Run the flow; its output is printed if it fails.

    Raises:
        RuntimeError: the flow has failed.
    """
    command = [sys.executable, "-m", "flows.retrain"]
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"flows.retrain: failed.\n{process.stdout}{process.stderr}")


@contextmanager
def _server(folder: Path) -> Iterator[dict[str, str]]:
    """Run a Prefect server with its own database; yield the environment of its clients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))},
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", port]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(f"{url}/health")
        yield environment
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait(address: str) -> None:
    """Wait until a server responds.

    Raises:
        TimeoutError: it does not respond in time.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            if httpx.get(address, timeout=5, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise TimeoutError(f"{address}: no response after {START_SECONDS:g} s.")
