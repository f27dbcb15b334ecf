"""A local server with an API like OpenAI's, whose responses a test determines."""

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

Response = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


def flat_image(prompt: str, size: int = 64) -> np.ndarray:
    """Return an image of one colour, which depends on the prompt."""
    return np.full((size, size, 3), sum(prompt.encode()) % 256, np.uint8)


def png(image: np.ndarray) -> bytes:
    """Encode an image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def image_response(**data: Any) -> Response:
    """Return a response with one entry in ``data``."""
    return 200, {}, json.dumps({"created": 0, "data": [data]}).encode()


def flat_image_response(body: dict[str, Any], size: int = 64) -> Response:
    """Return a response with the :func:`flat_image` of the requested prompt."""
    data = base64.b64encode(png(flat_image(body["prompt"], size))).decode()
    return image_response(b64_json=data)


def error_response(status: int, message: str, **headers: str) -> Response:
    """Return an error in OpenAI's format. Underscores in names of headers become hyphens."""
    return (
        status,
        headers,
        json.dumps(
            {"error": {"message": message, "type": "invalid_request_error", "code": None}}
        ).encode(),
    )


class Server:
    """The state of a server.

    Attributes:
        respond: function from the number of the request (from 0) and its JSON body to a response.
        bodies: JSON bodies of the requests.
        keys: authorization headers of the requests.
        paths: paths of the POST requests.
        times: times of the POST requests in seconds.
        files: files that GET requests can download, by path.
        lock: a lock for ``respond``.
        url: URL of the server.
    """

    def __init__(self, respond: Callable[[int, dict[str, Any]], Response]) -> None:
        self.respond = respond
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.files: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Server = self.server.state  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.lock:
            number = len(server.bodies)
            server.bodies.append(body)
            server.keys.append(self.headers["authorization"])
            server.paths.append(self.path)
            server.times.append(time.monotonic())
        self._send(*server.respond(number, body))

    def do_GET(self) -> None:
        server: Server = self.server.state  # type: ignore[attr-defined]
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
            self.close_connection = True  # the client has closed the connection

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(respond: Callable[[int, dict[str, Any]], Response]) -> Iterator[Server]:
    """Run a server in a thread within the context."""
    state = Server(respond)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.state = state  # type: ignore[attr-defined]
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
