"""A server of OpenAI's shape on this machine, that answers as a test tells it to."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


def picture(prompt: str, size: int = 64) -> np.ndarray:
    """A flat image whose colour depends on the prompt."""
    return np.full((size, size, 3), sum(prompt.encode()) % 256, np.uint8)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def answered(**data: Any) -> Answer:
    return 200, {}, json.dumps({"created": 0, "data": [data]}).encode()


def drawn(asked: dict[str, Any], size: int = 64) -> Answer:
    return answered(b64_json=base64.b64encode(png(picture(asked["prompt"], size))).decode())


def refused(status: int, message: str, **headers: str) -> Answer:
    return (
        status,
        headers,
        json.dumps(
            {"error": {"message": message, "type": "invalid_request_error", "code": None}}
        ).encode(),
    )


class Server:
    """``answer`` is called with the number of the request (from 0) and its JSON body; ``asked``
    holds what came in.
    """

    def __init__(self, answer: Callable[[int, dict[str, Any]], Answer]) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.files: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Server = self.server.told  # type: ignore[attr-defined]
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.lock:
            number = len(server.asked)
            server.asked.append(asked)
            server.keys.append(self.headers["authorization"])
            server.paths.append(self.path)
            server.times.append(time.monotonic())
        self._send(*server.answer(number, asked))

    def do_GET(self) -> None:
        server: Server = self.server.told  # type: ignore[attr-defined]
        server.keys.append(self.headers["authorization"])
        (
            self._send(200, {}, server.files[self.path])
            if self.path in server.files
            else self._send(404, {}, b"")
        )

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        try:
            self.send_response(status)
            for name, value in {
                "content-type": "application/json",
                "content-length": str(len(body)),
                **headers,
            }.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client did not wait

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(answer: Callable[[int, dict[str, Any]], Answer]) -> Iterator[Server]:
    told = Server(answer)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.told = told  # type: ignore[attr-defined]
    told.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
