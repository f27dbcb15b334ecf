"""What a request leaves in the metrics, the logs and the decision log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from catimage.data.decisions import read_decisions
from catimage.params.serving import ServingParams
from catimage.serving.telemetry import logs, metrics
from catimage.serving.telemetry.definitions import METRICS
from catimage.serving.telemetry.facade import Telemetry
from tests.serving.telemetry.requests import PROMPT, image_request, result, routed
from tests.serving.telemetry.test_logs import lines, stream
from tests.serving.telemetry.test_metrics import samples

__all__ = ["stream"]


@pytest.fixture
def telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    """The telemetry of a router process with a decision log in ``tmp_path``."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(metrics, "_SHARED", [])
    telemetry = Telemetry.open(ServingParams(), tmp_path, "replica-1", b"secret")
    yield telemetry
    telemetry.close()


def value(telemetry: Telemetry, name: str, **labels: str) -> float:
    return samples(telemetry.exposition()[0].decode()).get((name, tuple(sorted(labels.items()))), 0)


def serve(telemetry: Telemetry) -> None:
    """Report one request with a fallback, as the service does."""
    request = image_request()
    with logs.request_logged(request.request_id, "key_1", (request.prompt, request.user)):
        telemetry.fallback("small", "large", "timeout")
        telemetry.decision(routed(), request, result(), 200)
        telemetry.request("/v1/images/generations", 200, 0.8, "POST")


def test_a_request_is_counted_with_its_cost_and_its_savings(telemetry: Telemetry) -> None:
    telemetry.router("3", "tflops")
    serve(telemetry)
    cheap = result(candidate="small", cost=2.0, saved=4.0, routed=routed())
    telemetry.decision(routed(truncated=False), image_request(1), cheap, 200)
    telemetry.decision(routed(truncated=False), image_request(2), None, 499)
    route = {"route": "/v1/images/generations"}
    assert value(telemetry, "catimage_requests_total", **route, status="200") == 1
    assert value(telemetry, "catimage_request_seconds_sum", **route) == 0.8
    assert value(telemetry, "catimage_images_total", candidate="large") == 2
    assert value(telemetry, "catimage_cost_total", candidate="large", unit="tflops") == 8
    assert value(telemetry, "catimage_cost_total", candidate="small", unit="tflops") == 2
    assert value(telemetry, "catimage_reference_cost_total", unit="tflops") == 12
    assert value(telemetry, "catimage_saved_total", unit="tflops") == 4
    assert value(telemetry, "catimage_prompts_truncated_total") == 1
    assert value(telemetry, "catimage_predicted_quality_count") == 3
    queue = value(telemetry, "catimage_image_seconds_sum", candidate="large", stage="queue")
    assert queue == pytest.approx(0.2)
    labels = {"from": "small", "to": "large", "reason": "timeout"}
    assert value(telemetry, "catimage_fallbacks_total", **labels) == 1


def test_reasons_are_identifiers_and_never_texts(telemetry: Telemetry) -> None:
    telemetry.rejection("overloaded")
    telemetry.rejection(f"the prompt {PROMPT} is too long")
    telemetry.fallback("small", "large", "Connection refused by 10.0.0.1")
    assert value(telemetry, "catimage_rejections_total", reason="overloaded") == 1
    assert value(telemetry, "catimage_rejections_total", reason="other") == 1
    assert PROMPT.encode() not in telemetry.exposition()[0]
    assert b"10.0.0.1" not in telemetry.exposition()[0]


def test_the_state_of_the_service_is_exported(telemetry: Telemetry) -> None:
    telemetry.budget("service", 0.25, 3.0, -0.01)
    telemetry.pressure(0.125)
    telemetry.queue("cuda0", 7, 1.5)
    telemetry.batch_size("small", 4)
    telemetry.breaker("small", "open")
    telemetry.rate_limiter_outage()
    telemetry.in_progress("/v1/route", 1)
    telemetry.router("3", "tflops")
    telemetry.router("4", "tflops")
    expected = {
        ("catimage_lambda", "scope", "service"): 0.25,
        ("catimage_budget", "scope", "service"): 3.0,
        ("catimage_budget_error_ratio", "scope", "service"): -0.01,
        ("catimage_queue_images", "group", "cuda0"): 7,
        ("catimage_queue_seconds", "group", "cuda0"): 1.5,
        ("catimage_breaker_state", "candidate", "small"): 2,
        ("catimage_batch_size_count", "candidate", "small"): 1,
        ("catimage_requests_in_progress", "route", "/v1/route"): 1,
        ("catimage_router_info", "version", "3"): 0,
        ("catimage_router_info", "version", "4"): 1,
    }
    values = samples(telemetry.exposition()[0].decode())
    assert {k: values[k[0], (k[1:],)] for k in expected} == expected
    assert value(telemetry, "catimage_pressure") == 0.125
    assert value(telemetry, "catimage_rate_limiter_outages_total") == 1
    assert {n.removesuffix("_total") for n in METRICS} <= {
        line.split()[2].removesuffix("_total") for line in exposition_types(telemetry)
    }


def exposition_types(telemetry: Telemetry) -> list[str]:
    text = telemetry.exposition()[0].decode()
    return [line for line in text.splitlines() if line.startswith("# TYPE")]


def test_the_log_lines_of_a_request_have_its_ids_and_no_private_text(
    telemetry: Telemetry, stream: io.StringIO, tmp_path: Path
) -> None:
    serve(telemetry)
    telemetry.close()
    found = {str(line["message"]): line for line in lines(stream)}
    assert set(found) == {"fallback", "decision", "request"}
    assert {line["request_id"] for line in found.values()} == {"request-0"}
    assert {line["key_id"] for line in found.values()} == {"key_1"}
    decision, request = found["decision"], found["request"]
    assert (decision["candidate"], decision["cost"], decision["status"]) == ("large", 8.0, 200)
    assert (request["route"], request["method"]) == ("/v1/images/generations", "POST")
    assert (request["seconds"], request["level"]) == (0.8, "INFO")
    for private in (PROMPT, "harbour", "jane@example.org", "secret"):
        assert private not in stream.getvalue()
    assert len(read_decisions(tmp_path)) == 1


def test_server_errors_are_warnings(telemetry: Telemetry, stream: io.StringIO) -> None:
    telemetry.request("/v1/route", 503, 0.1, "POST", "draining")
    (line,) = lines(stream)
    assert (line["level"], line["code"]) == ("WARNING", "draining")


def test_nothing_is_written_if_decisions_are_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_SHARED", [])
    settings = ServingParams(log_decisions=False)
    for telemetry in (
        Telemetry.open(settings, tmp_path, "r", b"s"),
        Telemetry.open(ServingParams(), None, "r", b"s"),
    ):
        telemetry.decision(routed(), image_request(), result(), 200)
        telemetry.close()
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger("catimage.access").handlers == []
