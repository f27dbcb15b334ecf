"""The client, against a server of the standard library on a real socket."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import catimage
from catimage.serving.client.client import Client
from catimage.serving.client.errors import (
    InvalidKeyError,
    InvalidRequestError,
    NoAnswerError,
    NotFoundError,
    OverLimitError,
    ServiceError,
    UnavailableError,
)

Reply = tuple[int, dict[str, str], bytes]


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def reply(document: Any, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps(document).encode()


def refusal(status: int, message: str, code: str, **headers: str) -> Reply:
    document = {"error": {"message": message, "type": "x", "param": "n", "code": code}}
    return reply(document, status, **headers)


def answer(*items: dict[str, str]) -> Reply:
    summary = {
        "request_id": "req-1",
        "candidate": "mini-2",
        "cost": 4.0,
        "cost_unit": "tflops",
        "saved": 3.0,
        "reference": "mini-4",
        "seed": 7,
        "seconds": {"total": 0.5},
    }
    return reply({"data": list(items), "output_format": "png", "catimage": summary})


def encoded(level: int) -> dict[str, str]:
    return {"b64_json": base64.b64encode(png(level)).decode()}


class Server:
    """Answers with ``replies`` in turn, and records the requests."""

    def __init__(self) -> None:
        self.replies: list[Reply | Callable[[BaseHTTPRequestHandler], None]] = []
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                sent = json.loads(body) if body else None
                server.requests.append((self.command, self.path, headers, sent))
                action = server.replies.pop(0)
                if callable(action):
                    action(self)
                    return
                status, extra, content = action
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url + "/v1/", api_key="secret", timeout=5) as client:
        yield client


def test_the_client_is_a_public_name_that_needs_no_server() -> None:
    assert catimage.Client is Client
    with pytest.raises(
        NoAnswerError, match=r"no answer .* Check that the service runs\."
    ) as raised:
        Client("http://127.0.0.1:9", retries=0).models()
    assert raised.value.status is None


def test_generate_sends_the_fields_that_are_set_and_returns_images(
    server: Server, client: Client, tmp_path: Path
) -> None:
    server.replies = [answer(encoded(10), encoded(200))]
    images = client.generate("a ring", 2, lam=0.5, seed=7, size="64x64", quality=None)
    method, path, headers, body = server.requests[0]
    assert (method, path) == ("POST", "/v1/images/generations")
    assert headers["authorization"] == "Bearer secret"
    assert body == {"prompt": "a ring", "n": 2, "lambda": 0.5, "seed": 7, "size": "64x64"}
    assert (images.candidate, images.cost, images.saved) == ("mini-2", 4.0, 3.0)
    assert [image.getpixel((0, 0)) for image in images] == [(10, 10, 10), (200, 200, 200)]
    assert [path.name for path in images.save(tmp_path)] == ["7.png", "8.png"]
    assert (tmp_path / "8.png").read_bytes() == png(200)


def test_images_with_urls_are_downloaded_without_the_key(server: Server, client: Client) -> None:
    server.replies = [answer({"url": f"{server.url}/v1/images/files/abc"}), (200, {}, png(5))]
    images = client.generate("a ring", response_format="url")
    assert images.files == (png(5),)
    assert server.requests[1][:2] == ("GET", "/v1/images/files/abc")
    assert "authorization" not in server.requests[1][2]


def test_flagged_images_have_no_content(server: Server, client: Client) -> None:
    server.replies = [answer({"flagged": "unsafe"}, encoded(1))]
    images = client.generate("a ring", 2)
    assert [len(file) > 0 for file in images.files] == [False, True]
    assert len(images) == 2 and len(images.pil()) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, InvalidKeyError),
        (404, NotFoundError),
        (413, InvalidRequestError),
        (500, UnavailableError),
    ],
)
def test_errors_are_typed_and_not_repeated(
    server: Server, client: Client, status: int, kind: type[ServiceError]
) -> None:
    server.replies = [refusal(status, "n: too large. Reduce it.", "bad", x_request_id="r9")]
    with pytest.raises(kind, match=r"^n: too large\. Reduce it\.$") as raised:
        client.generate("a ring", 99)
    error = raised.value
    assert (error.status, error.code, error.param, error.request_id) == (status, "bad", "n", "r9")


def test_a_refused_request_is_repeated_after_the_wait_of_the_header(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(client._http, "_sleep", waits.append)
    busy = refusal(429, "service: overloaded. Wait.", "overloaded", Retry_After="3")
    down = refusal(503, "service: starting. Wait.", "starting")
    server.replies = [busy, down, answer(encoded(1))]
    assert client.generate("a ring").candidate == "mini-2"
    assert waits == [3.0, 1.0]
    assert len(server.requests) == 3


@pytest.mark.parametrize("headers", [{"x_should_retry": "false"}, {"Retry_After": "3600"}])
def test_a_refusal_that_waiting_cannot_help_is_raised_at_once(
    server: Server, client: Client, headers: dict[str, str]
) -> None:
    server.replies = [refusal(429, "key: over its ceiling. Wait.", "insufficient_quota", **headers)]
    with pytest.raises(OverLimitError, match="over its ceiling"):
        client.generate("a ring")
    assert len(server.requests) == 1


def test_a_lost_connection_is_not_repeated_because_the_work_may_be_done(
    server: Server, client: Client
) -> None:
    server.replies = [lambda handler: handler.connection.close()]
    with pytest.raises(NoAnswerError):
        client.generate("a ring")
    assert len(server.requests) == 1


def test_route_returns_one_decision_or_a_list(server: Server, client: Client) -> None:
    decision = {
        "candidate": "mini-1",
        "cost": 1.0,
        "cost_unit": "tflops",
        "predicted_quality": 0.5,
        "lambda": 0.1,
    }
    server.replies = [reply(decision), reply({"data": [decision, decision]})]
    assert client.route("one", budget=2.0).candidate == "mini-1"
    assert [routed.prompt for routed in client.route(["a", "b"])] == ["a", "b"]
    assert [request[3] for request in server.requests] == [
        {"prompt": "one", "budget": 2.0},
        {"prompt": ["a", "b"]},
    ]


def event(name: str, **document: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(document)}\n\n".encode()


def test_stream_yields_partial_and_finished_images(server: Server, client: Client) -> None:
    partial = {"image_index": 0, "partial_image_index": 0, **encoded(3)}
    events = [
        b": keep-alive\n\n",
        event("image_generation.partial_image", **partial),
        event("image_generation.completed", image_index=0, **encoded(4)),
    ]
    server.replies = [(200, {"Content-Type": "text/event-stream"}, b"".join(events))]
    images = list(client.stream("a ring", partial_images=2, lam=1.0))
    assert [(image.partial, image.file) for image in images] == [(0, png(3)), (None, png(4))]
    sent = server.requests[0][3]
    assert (sent["stream"], sent["partial_images"], sent["lambda"]) == (True, 2, 1.0)


def test_an_error_in_a_stream_is_raised(server: Server, client: Client) -> None:
    failure = event("error", error={"message": "service: stopped. Retry.", "code": "draining"})
    server.replies = [(200, {"Content-Type": "text/event-stream"}, failure)]
    with pytest.raises(UnavailableError, match="service: stopped") as raised:
        list(client.stream("a ring"))
    assert raised.value.code == "draining"


def test_wait_returns_the_images_of_a_job(server: Server, client: Client) -> None:
    server.replies = [
        reply({"id": "job 1", "status": "queued"}),
        reply({"id": "job 1", "status": "running"}),
        reply({"id": "job 1", "status": "succeeded"}),
        answer(encoded(9)),
    ]
    job = client.submit("a ring", 1, seed=7)
    assert not job.finished
    assert client.wait(job.job_id, interval=0.01).files == (png(9),)
    assert server.requests[-1][1] == "/v1/images/jobs/job%201/result"


def test_wait_raises_the_error_of_a_failed_job(server: Server, client: Client) -> None:
    error = {"message": "prompt: moderated. Change it.", "code": "moderation_blocked"}
    server.replies = [reply({"id": "j", "status": "failed", "error": error})]
    with pytest.raises(ServiceError, match=r"prompt: moderated\. Change it\."):
        client.wait("j")


def test_an_answer_that_is_not_json_names_the_url(server: Server, client: Client) -> None:
    server.replies = [(200, {}, b"<html>")]
    with pytest.raises(NoAnswerError, match=r"models: the answer is not JSON\. Check the URL"):
        client.models()
