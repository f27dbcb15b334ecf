"""``catimage route --url``, against a server of the standard library."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from catimage.cli.app import app
from catimage.commands.ask_service import ask_service
from catimage.serving.client.errors import NoAnswerError

BODIES: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    """Routes every prompt to mini-1; the router is not loaded if the prompt is ``fallback``."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        BODIES.append(body)
        content = json.dumps({"data": [self.decision(p) for p in body["prompt"]]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    @staticmethod
    def decision(prompt: str) -> dict[str, Any]:
        quality = None if prompt == "fallback" else 0.5
        row = {"candidate": "mini-1", "cost": 1.0, "predicted_quality": quality}
        return {
            **row,
            "cost_unit": "tflops",
            "metric": "clip_score",
            "lambda": None if prompt == "fallback" else 0.25,
            "candidates": [row],
        }

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    BODIES.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_prompts_are_sent_in_requests_of_at_most_256(url: str) -> None:
    answer = ask_service(url, [f"prompt {i}" for i in range(300)], None, 2.0, 7)
    assert [len(body["prompt"]) for body in BODIES] == [256, 44]
    assert [(body["budget"], body["seed"]) for body in BODIES] == [(2.0, 7), (2.0, 263)]
    assert len(answer.decisions) == 300 and answer.decisions[299].prompt == "prompt 299"
    assert (answer.metric, answer.cost_unit) == ("clip_score", "tflops")


def test_predictions_of_a_service_without_a_router_are_nan(url: str) -> None:
    decision = ask_service(url, ["fallback"], None, None, None).decisions[0]
    assert decision.candidate == "mini-1"
    assert math.isnan(decision.predicted_quality) and math.isnan(decision.lam)


def test_the_command_prints_the_decisions_of_the_service(url: str) -> None:
    run = CliRunner().invoke(app, ["route", "a ring", "--url", url, "--lambda", "0.25"])
    assert run.exit_code == 0, run.output
    assert run.stdout == "mini-1  cost 1 tflops  predicted clip_score 0.5  a ring\n"
    assert BODIES == [{"prompt": ["a ring"], "lambda": 0.25}]


def test_a_service_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(NoAnswerError, match="Check that the service runs"):
        ask_service("http://127.0.0.1:9", ["a"], None, None, None)
