"""The application behind uvicorn in a thread of the test process, for clients over HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from catimage.serving.api.backend import Backend
from catimage.serving.generator.client import Group
from tests.serving.api.harness import application


@dataclass(frozen=True)
class Server:
    """A server on 127.0.0.1.

    Attributes:
        url: its address.
        app: the application.
        backend: its parts.
    """

    url: str
    app: FastAPI
    backend: Backend


@contextmanager
def serving(root: Path, *groups: Group, **settings: Any) -> Iterator[Server]:
    """Serve a workspace until the end of the ``with`` block.

    Args:
        root: the folder of the workspace.
        groups: the generator groups.
        settings: keys of the section ``serving``.
    """
    with application(root, *groups, **settings) as (app, backend):
        config = uvicorn.Config(app, "127.0.0.1", 0, log_level="error", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            _wait(url)
            yield Server(url, app, backend)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def _wait(url: str) -> None:
    end = time.monotonic() + 60
    while httpx.get(f"{url}/readyz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.02)
