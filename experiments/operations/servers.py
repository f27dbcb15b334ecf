"""The server processes: MLflow, Prefect, its worker, and the service. All of them always end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
from benchmarks.serving.processes import free_port, start_python

from experiments.operations.timeline import StepError

MARK = "CATIMAGE_OPERATIONS_DEMO"
"""An environment variable of all processes, by which those that have been left are found."""
STATE = ".servers"
"""The folder in the workspace with the state and the logs of the servers."""
_INHERITED = ("PREFECT", "MLFLOW", "CATIMAGE_", "BENTOML")
_STOP_SECONDS = 30.0


class Servers:
    """The processes of the demonstration.

    Attributes:
        prefect: the address of Prefect's API.
        mlflow: the address of MLflow.
        service: the address of the service.
        state: the folder of the state and the logs of the servers.
        environment: the environment variables of all processes.
    """

    def __init__(self, workspace: Path) -> None:
        """Choose the addresses; no process is started.

        Args:
            workspace: the workspace, whose folder :data:`STATE` gets the state of the servers.
        """
        self._workspace, self.state = workspace, workspace / STATE
        ports = [free_port() for _ in range(3)]
        self._ports = dict(zip(("prefect", "mlflow", "service"), ports, strict=True))
        self.prefect = f"http://127.0.0.1:{ports[0]}/api"
        self.mlflow, self.service = (f"http://127.0.0.1:{port}" for port in ports[1:])
        self._processes: list[subprocess.Popen[bytes]] = []
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_INHERITED)}
        self.environment = kept | {
            MARK: str(workspace),
            "PREFECT_HOME": str(self.state / "prefect"),
            "PREFECT_PROFILES_PATH": str(self.state / "prefect" / "profiles.toml"),
            "PREFECT_API_URL": self.prefect,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            "MLFLOW_TRACKING_URI": self.mlflow,
            "CATIMAGE_HOME": str(self.state / "service"),
            "BENTOML_HOME": str(self.state / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "GX_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            # Otherwise the service and a retrain have two threads each on two cores, whose waiting
            # takes most of the time: ten times fewer images per second.
            "OMP_NUM_THREADS": "1",
        }

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C leaves no process
        self.stop()

    def start_registry(self) -> None:
        """Start MLflow and Prefect's server."""
        folder = self.state / "mlflow"
        folder.mkdir(parents=True)
        store = [f"--backend-store-uri=sqlite:///{folder / 'mlflow.db'}", "--workers=1"]
        artifacts = f"--artifacts-destination={folder / 'artifacts'}"
        port = str(self._ports["mlflow"])
        self._start("mlflow", "-m", "mlflow", "server", f"--port={port}", *store, artifacts)
        port = str(self._ports["prefect"])
        self._start("prefect", "-m", "prefect", "server", "start", "--port", port)

    def start_worker(self) -> None:
        """Start a worker of the work pool of the deployments."""
        self._start("worker", "-m", "prefect", "worker", "start", "--pool", "catimage-cpu")

    def start_service(self) -> None:
        """Serve the Bento of the workspace, as ``make serve`` does."""
        port = str(self._ports["service"])
        self._start("service", "-m", "catimage.serving.bento", "--port", port)

    def _start(self, name: str, *arguments: str) -> None:
        self._servers[name] = self.run(name, *arguments)

    def run(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start Python with arguments, such as those of a command that ends by itself."""
        self.log(name).parent.mkdir(parents=True, exist_ok=True)
        process = start_python(arguments, self._workspace, self.environment, self.log(name))
        self._processes.append(process)
        return process

    def log(self, name: str) -> Path:
        """Return the file with the output of a process."""
        return self.state / "logs" / f"{name}.log"

    def check(self) -> None:
        """Raise StepError if a server has ended."""
        for name, process in self._servers.items():
            if (status := process.poll()) is not None:
                log = self.log(name)
                raise StepError(f"{name}: ended with status {status}. Its output is in {log}")

    def responds(self, url: str) -> bool | None:
        """Return True if a server answers with 200, otherwise None.

        Raises:
            httpx.TransportError: it does not answer.
        """
        answer = httpx.get(url, timeout=5, trust_env=False)
        return True if answer.status_code == httpx.codes.OK else None

    def stop(self) -> None:
        """End all servers, the last one first, and every process that one of them has left."""
        end = time.monotonic() + _STOP_SECONDS
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)  # nothing if it has ended
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(end - time.monotonic(), 0))
        end_marked_processes(self._workspace)


def end_marked_processes(workspace: Path) -> None:
    """Kill the processes of the demonstration in a workspace, also of one that was killed."""
    left = marked_processes(workspace)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, _STOP_SECONDS)


def marked_processes(workspace: Path) -> list[psutil.Process]:
    """Return the running processes of the demonstration in a workspace."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(workspace) and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue  # it has ended, or belongs to another user
    return found
