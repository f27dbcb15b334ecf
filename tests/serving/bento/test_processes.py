"""Start, faults and shutdown of the processes, with applications that need no models."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
import pytest

MODULE = "tests.serving.bento.stub_service:Router"
ROOT = Path(__file__).parents[3]


class Server:
    """A running ``bentoml serve``."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.url, self.log = process, f"http://127.0.0.1:{port}", log

    def get(self, path: str, timeout: float = 20) -> httpx.Response:
        return httpx.get(self.url + path, timeout=timeout)

    def wait(self, path: str, seconds: float = 40) -> int:
        """Wait until a path is answered, and return the PID in the answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                response = self.get(path)
                if response.status_code == 200 and "pid" in response.json():
                    return int(response.json()["pid"])
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        pytest.fail(f"{path} was not answered:\n{self.log.read_text()}")

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


@contextmanager
def serve(folder: Path, **variables: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", MODULE, "--port", str(port)]
    env = {**os.environ, "BENTOML_HOME": str(folder / "home"), "TMPDIR": str(folder), **variables}
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)
    server = Server(process, port, log)
    workers: list[psutil.Process] = []
    try:
        server.wait("/group/pid")
        workers = server.workers()
        yield server
    finally:
        process.kill()
        process.wait()
        for worker in workers:
            if worker.is_running():
                worker.kill()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: the path of a socket has at most 103 characters."""
    with TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with (
        TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as name,
        serve(Path(name)) as running,
    ):
        yield running


def test_the_service_listens_on_the_loopback_interface_only(server: Server) -> None:
    connections = [c for p in server.workers() for c in p.net_connections("tcp")]
    listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("path", ["/", "/docs.json", "/schema.json", "/metrics", "/livez"])
def test_routes_of_bentoml_do_not_exist(server: Server, path: str) -> None:
    assert server.get(path).status_code == 404


def test_a_killed_process_is_restarted_within_seconds(server: Server) -> None:
    for path in ("/group/pid", "/pid"):
        old = server.wait(path)
        os.kill(old, signal.SIGKILL)
        started = time.monotonic()
        while server.wait(path) == old:
            time.sleep(0.05)
        assert time.monotonic() - started < 14  # twice on a busy machine


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_process_in_standby_replaces_a_generator_process_at_once(
    server: Server, number: int
) -> None:
    router, old = server.wait("/pid"), psutil.Process(server.wait("/group/pid"))
    standby = old.ppid()
    assert standby != server.process.pid and router in {w.pid for w in server.workers()}
    os.kill(old.pid, number)
    started = time.monotonic()
    while (new := server.wait("/group/pid")) == old.pid:
        time.sleep(0.02)
    assert time.monotonic() - started < 14
    assert psutil.Process(new).ppid() == standby
    assert server.wait("/pid") == router


def test_a_router_process_is_restarted_after_sigterm(server: Server) -> None:
    group, old = server.wait("/group/pid"), server.wait("/pid")
    os.kill(old, signal.SIGTERM)
    started = time.monotonic()
    while server.wait("/pid") == old:
        time.sleep(0.05)
    assert time.monotonic() - started < 20
    assert server.wait("/group/pid") == group


def test_a_process_whose_engine_failed_is_restarted(server: Server) -> None:
    router, old = server.wait("/pid"), server.wait("/group/pid")
    assert server.get("/group/end").json() == {"pid": old}
    started = time.monotonic()
    while server.wait("/group/pid") == old:
        time.sleep(0.05)
    assert time.monotonic() - started < 14
    assert server.wait("/pid") == router


@pytest.mark.system
def test_sigterm_completes_accepted_requests_and_refuses_new_ones(folder: Path) -> None:
    with serve(folder) as server, ThreadPoolExecutor() as pool:
        # the second request needs the generator service only after the signal
        direct = pool.submit(server.get, "/group/wait?seconds=3")
        later = pool.submit(server.get, "/group/wait?seconds=1&pause=2")
        time.sleep(0.5)
        workers = server.workers()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        started = time.monotonic()
        refused = server.get("/pid")
        assert (refused.status_code, time.monotonic() - started < 1) == (503, True)
        assert direct.result().status_code == later.result().status_code == 200
        server.process.wait(timeout=10)
        assert not [w for w in workers if w.is_running()]
        assert leftovers(folder) == []


@pytest.mark.system
def test_no_connection_is_closed_while_a_request_is_sent_on_it(folder: Path) -> None:
    with serve(folder) as server, ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(statuses_until_refused, server.url) for _ in range(8)]
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        answered = [client.result(timeout=20) for client in clients]
        assert all(set(statuses) <= {200, 503} and 503 in statuses for statuses in answered)


def statuses_until_refused(url: str) -> list[int]:
    """Send requests on one connection without a pause until connections are refused."""
    statuses: list[int] = []
    with httpx.Client() as client:
        while len(statuses) < 100_000:
            try:
                statuses.append(client.get(f"{url}/pid").status_code)
            except httpx.ConnectError:
                return statuses
    raise AssertionError("the connections were never refused")


@pytest.mark.system
def test_requests_that_take_too_long_do_not_delay_the_end(folder: Path) -> None:
    with (
        serve(folder, CATIMAGE_SERVING__DRAIN_SECONDS="1") as server,
        ThreadPoolExecutor() as pool,
    ):
        slow = pool.submit(server.get, "/wait?seconds=60", 90)
        time.sleep(0.5)
        started = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        server.process.wait(timeout=15)
        assert 1 < time.monotonic() - started < 8
        assert slow.exception(timeout=5) is not None or slow.result().status_code >= 500


@pytest.mark.system
def test_the_processes_end_with_a_killed_supervisor(folder: Path) -> None:
    with serve(folder) as server:
        workers = server.workers()
        assert len(workers) == 2
        server.process.kill()
        server.process.wait()
        gone, alive = psutil.wait_procs(workers, timeout=10)
        assert (len(gone), alive) == (2, [])
        assert leftovers(folder, "bentoml-uds-*") == []


def leftovers(folder: Path, pattern: str = "*-*") -> list[str]:
    """Return the temporary folders that the processes have left."""
    return [path.name for path in folder.glob(pattern)]
