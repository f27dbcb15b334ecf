"""Server processes on 127.0.0.1: start, readiness, memory and end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import psutil


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        return int(free_socket.getsockname()[1])


def start_python(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start Python in the background, in a session of its own, which has all of its descendants.

    Args:
        arguments: the arguments, such as ``-m`` and the name of a module.
        folder: the working directory.
        environment: all environment variables.
        log: file to which the output is appended.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class ServerProcess:
    """A server and its child processes.

    Attributes:
        url: the URL of the server.
        log: file with its output.
        started: time of the start (``time.perf_counter``).
    """

    def __init__(
        self, command: list[str], port: int, folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Start the server.

        Args:
            command: the command and its arguments.
            port: port on which the server listens.
            folder: the working directory, in which the file ``server.log`` is written.
            env: variables that are added to the environment.
        """
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "server.log"
        self.started = time.perf_counter()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=os.environ | (env or {}), stdout=log, stderr=log
            )
        self._family: dict[int, psutil.Process] = {}

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_ready(self, limit: float = 240.0, path: str = "/readyz") -> float:
        """Wait until the server is ready; return the seconds since its start.

        Raises:
            RuntimeError: the server ended, or it is not ready within ``limit`` seconds.
        """
        return self.wait_status(path, {200}, limit)

    def wait_measured(self, limit: float = 240.0) -> None:
        """Wait until no generator group measures its speeds, which takes device time.

        Raises:
            RuntimeError: it still does after ``limit`` seconds.
        """
        end = time.perf_counter() + limit
        while time.perf_counter() < end:
            groups = httpx.get(f"{self.url}/readyz", trust_env=False, timeout=30).json()["groups"]
            if all(group.get("measured") for group in groups.values()):
                return
            time.sleep(0.5)
        raise RuntimeError(f"{self.url}: still measures its speeds after {limit:g} s")

    def wait_status(self, path: str, statuses: set[int], limit: float = 240.0) -> float:
        """Wait for an answer with one of ``statuses``; return the seconds since the start."""
        with httpx.Client(trust_env=False, timeout=30) as client:
            while time.perf_counter() - self.started < limit and self.process.poll() is None:
                try:
                    if client.get(self.url + path).status_code in statuses:
                        self.family()
                        return time.perf_counter() - self.started
                except httpx.TransportError:
                    pass  # not listening yet
                time.sleep(0.1)
        lines = [line for line in self.log.read_text().splitlines() if "/readyz" not in line]
        raise RuntimeError("\n".join([f"{self.url}{path}: no answer", *lines[-40:]]))

    def family(self) -> list[psutil.Process]:
        """Return the process and all of its descendants that run."""
        try:
            root = psutil.Process(self.process.pid)
            for process in [root, *root.children(recursive=True)]:
                self._family[process.pid] = process
        except psutil.NoSuchProcess:
            pass  # the root has ended; its descendants are known from earlier calls
        return [p for p in self._family.values() if p.is_running()]

    def pss(self) -> dict[int, int]:
        """Return the proportional set size of each process in bytes, by its id."""
        sizes = {}
        for process in self.family():
            try:
                sizes[process.pid] = int(process.memory_full_info().pss)
            except psutil.NoSuchProcess:
                continue  # it ended in the meantime
        return sizes

    def processor_seconds(self) -> float:
        """Return the processor time that the running processes have used, in seconds."""
        seconds = 0.0
        for process in self.family():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue  # it ended in the meantime
            seconds += times.user + times.system
        return seconds

    def largest(self) -> psutil.Process:
        """Return the process with the most memory: the one that runs the generators."""
        sizes = self.pss()
        return self._family[max(sizes, key=lambda pid: sizes[pid])]

    def terminate(self) -> None:
        """Send SIGTERM to the server."""
        self.family()
        self.process.send_signal(signal.SIGTERM)

    def stop(self, limit: float = 30.0) -> float:
        """End the server and its descendants; return the seconds until the server had ended."""
        start = time.perf_counter()
        if self.process.poll() is None:
            self.terminate()
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        seconds = time.perf_counter() - start
        for process in self.family():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue  # it ended in the meantime
        return seconds
