"""A real server of MLflow, which can be killed, and a proxy that loses requests to it."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from benchmarks.serving.processes import free_port, start_python

from tests.system.programs import wait_until


class MlflowServer:
    """A server of MLflow with a database and a folder or bucket of artifacts.

    Attributes:
        url: its address.
    """

    def __init__(
        self, log: Path, database: str, artifacts: str, environment: Mapping[str, str]
    ) -> None:
        self._log, self._port = log, free_port()
        self._arguments = ["--backend-store-uri", database, "--artifacts-destination", artifacts]
        self._environment = {
            **{name: value for name, value in os.environ.items() if "MLFLOW" not in name},
            **environment,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the server, and wait until it responds."""
        address = ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        arguments = ["-m", "mlflow", "server", *address, *self._arguments]
        self._process = start_python(arguments, Path(), self._environment, self._log)
        wait_until(self._is_healthy, "mlflow server", 180)

    def _is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """Kill all processes of the server."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)
            self._process = None

    def client(self) -> Any:
        """Return a client of the server."""
        import mlflow

        return mlflow.MlflowClient(self.url)

    def clear(self) -> None:
        """Delete all registered models."""
        client = self.client()
        for model in client.search_registered_models():
            client.delete_registered_model(model.name)


class Outage:
    """A proxy of a server, which is away from its n-th write on.

    Attributes:
        url: the address of the proxy.
        writes: the number of requests that write since :meth:`end`.
        first_lost: the number of the request from which on the server is away; 0: none.
        executed: whether this request is executed, and only its answer is lost.
        away: whether the server is away.
    """

    def __init__(self, url: str, port: int) -> None:
        self.url, self.target = url, port
        self.end()

    def end(self, first_lost: int = 0, executed: bool = False) -> None:
        """Forward requests again, until the next outage begins."""
        self.writes, self.first_lost, self.executed, self.away = 0, first_lost, executed, False

    def forwards(self, method: str) -> bool:
        """Count a request; return whether it reaches the server."""
        self.writes += method != "GET"
        begins = not self.away and self.writes == self.first_lost != 0
        self.away = self.away or begins
        return not self.away or (begins and self.executed)


@contextmanager
def outages(target: str) -> Iterator[Outage]:
    """Run a proxy of the server at an address."""
    port = int(target.rpartition(":")[2])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = self.forwarded(body) if outage.forwards(self.command) else None
            if answer is None or outage.away:
                self.close_connection = True
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            headers["Host"] = f"127.0.0.1:{port}"
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            content = response.read()
            connection.close()
            return response.status, response.getheaders(), content

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    outage = Outage(f"http://127.0.0.1:{server.server_port}", port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield outage
    server.shutdown()
    thread.join()
    server.server_close()
