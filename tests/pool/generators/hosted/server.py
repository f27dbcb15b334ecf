"""A local server with an API like OpenAI's. Tests define its responses."""

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
"""Status code, headers and body of a response."""


def uniform_image(prompt: str, size: int = 64) -> np.ndarray:
    """Return an image of one colour that depends on the prompt: uint8 of shape (size, size, 3)."""
    return np.full((size, size, 3), sum(prompt.encode()) % 256, np.uint8)


def png_bytes(image: np.ndarray) -> bytes:
    """Encode an image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def image_response(**data: Any) -> Response:
    """Return a response whose field ``data`` has one entry, with the given fields."""
    return 200, {}, json.dumps({"created": 0, "data": [data]}).encode()


def uniform_image_response(body: dict[str, Any], size: int = 64) -> Response:
    """Return a response with the :func:`uniform_image` of the requested prompt."""
    data = base64.b64encode(png_bytes(uniform_image(body["prompt"], size))).decode()
    return image_response(b64_json=data)


def error_response(status: int, message: str, **headers: str) -> Response:
    """Return an error response in OpenAI's format.

    Keyword arguments are headers; underscores in their names are replaced by hyphens.
    """
    return (
        status,
        headers,
        json.dumps(
            {"error": {"message": message, "type": "invalid_request_error", "code": None}}
        ).encode(),
    )


class Server:
    """The state of a running server.

    Attributes:
        respond: function from the number of a request (counted from 0) and its JSON body to the
            response.
        bodies: JSON bodies of the requests.
        authorizations: authorization headers of the requests; None for a request without one.
        paths: paths of the POST requests.
        times: times of the POST requests, in seconds of the monotonic clock.
        files: contents of the files that GET requests can download, by path.
        lock: a lock for ``respond``.
        url: URL of the server.
    """

    def __init__(self, respond: Callable[[int, dict[str, Any]], Response]) -> None:
        self.respond = respond
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
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
            server.authorizations.append(self.headers["authorization"])
            server.paths.append(self.path)
            server.times.append(time.monotonic())
        self._send(*server.respond(number, body))

    def do_GET(self) -> None:
        server: Server = self.server.state  # type: ignore[attr-defined]
        server.authorizations.append(self.headers["authorization"])
        if self.path in server.files:
            self._send(200, {}, server.files[self.path])
        else:
            self._send(404, {}, b"")

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
        """Log nothing."""


@contextmanager
def run_server(respond: Callable[[int, dict[str, Any]], Response]) -> Iterator[Server]:
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
