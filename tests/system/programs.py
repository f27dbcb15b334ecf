"""The programs of the system tests: where they are, and servers of PostgreSQL, Redis and S3."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.serving.processes import free_port

PACKAGES = {
    "initdb": "postgresql",
    "redis-server": "redis-server",
    "chromium": "chromium",
    "node": "nodejs",
    "npm": "npm",
}
"""The Debian package of each program; ``.ci/run`` installs them."""


def find_program(name: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    path = shutil.which(name) or next((str(p / name) for p in places if (p / name).exists()), None)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian package {PACKAGES.get(name, name)})")
    return path


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait until a condition holds; fail the test if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:g} seconds")
        time.sleep(0.05)


def accepts(port: int) -> bool:
    """Test whether a process listens on a port of 127.0.0.1."""
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex(("127.0.0.1", port)) == 0


class PostgreSQL:
    """A server with its own data folder; as root, it runs as the user ``postgres``.

    Attributes:
        port: the port on 127.0.0.1.
        password: the password of the user ``catimage``.
    """

    def __init__(self) -> None:
        self._initdb, self._pg_ctl = find_program("initdb"), find_program("pg_ctl")
        self.port, self.password = free_port(), secrets.token_hex(8)
        self._folder = Path(tempfile.mkdtemp(prefix="catimage-postgresql-"))
        self._as: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
            self._as = [find_program("runuser"), "-u", "postgres", "--"]
        password = self._folder / "password"
        password.write_text(self.password)
        password.chmod(0o644)  # the folder is private
        arguments = ["--username=catimage", "--auth=scram-sha-256", f"--pwfile={password}"]
        self._run(self._initdb, "-D", self.data, "--encoding=UTF8", "--no-sync", *arguments)

    @property
    def data(self) -> str:
        """The data folder."""
        return str(self._folder / "data")

    def _run(self, *command: str) -> None:
        result = subprocess.run(
            [*self._as, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            cwd=self._folder,
        )
        assert result.returncode == 0, result.stdout

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder} -c fsync=off"
        log = str(self._folder / "log")
        self._run(self._pg_ctl, "start", "-w", "-D", self.data, "-l", log, "-o", options)

    def stop(self) -> None:
        """Stop the server at once; open connections are closed."""
        self._run(self._pg_ctl, "stop", "-w", "-D", self.data, "-m", "immediate")

    def remove(self) -> None:
        """Remove the data folder of a server that has stopped."""
        shutil.rmtree(self._folder)

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        user = f"catimage:{self.password}"
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty database and return its address."""
        import psycopg

        name = f"db_{secrets.token_hex(6)}"
        place = self.url().replace("+psycopg", "")
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)


class Redis:
    """A Redis server in memory.

    Attributes:
        port: the port on 127.0.0.1.
        url: the address.
    """

    def __init__(self) -> None:
        self._program, self.port = find_program("redis-server"), free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]
        self._process = subprocess.Popen(
            [self._program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        wait_until(lambda: accepts(self.port), "redis-server")

    def stop(self) -> None:
        """Kill the server, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


class S3:
    """A server of S3's HTTP interface (``moto_server``), which keeps objects in memory.

    Attributes:
        environment: the variables with which the clients of AWS use it.
    """

    def __init__(self) -> None:
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "catimage",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(8),
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(
            program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: accepts(self._port), "moto_server", 60)

    def stop(self) -> None:
        """Kill the server, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def client(self) -> Any:
        """Return a client of boto3."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
        )

    def new_bucket(self, versioning: bool = False) -> str:
        """Create an empty bucket and return its name."""
        client, name = self.client(), f"bucket-{secrets.token_hex(6)}"
        client.create_bucket(Bucket=name)
        if versioning:
            status = {"Status": "Enabled"}
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration=status)
        return name
