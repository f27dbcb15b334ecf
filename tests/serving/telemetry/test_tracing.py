"""Spans of a request in two applications."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import timeit
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from catimage.errors import InputError
from catimage.serving.telemetry import tracing
from catimage.serving.telemetry.tracing import Span, Tracing

VARIABLES = (*tracing.ENDPOINTS, "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED")


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The exporter of this process."""
    monkeypatch.setattr(tracing, "_SHARED", [])
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.configure("test", provider)
    yield exporter
    provider.shutdown()


async def generate(request: Request) -> PlainTextResponse:
    """The generator service: a span below that of the router's request."""
    with tracing.tracing().span("generate", headers=request.headers, candidate="small") as span:
        tracing.tracing().record("wait", span, 1000.0, 0.25)
        return PlainTextResponse("image")


async def answer(request: Request) -> PlainTextResponse:
    """The router service: spans of the request, the decision and the call of a group."""
    with tracing.tracing().span("request", headers=request.headers, route="/v1/images"):
        with tracing.tracing().span("route") as span:
            assert tracing.tracing().headers() == span.headers() != {}
        async for text in events(request.app.state.group):
            return PlainTextResponse(text)
    raise AssertionError


async def events(group: httpx.AsyncClient) -> AsyncIterator[str]:
    span = tracing.tracing().begin("queue")
    try:
        yield (await group.post("/v1/tasks", headers=span.headers())).text
    finally:
        span.end()


def test_the_spans_of_two_services_are_one_trace(exported: InMemorySpanExporter) -> None:
    async def call() -> None:
        group = Starlette(routes=[Route("/v1/tasks", generate, methods=["POST"])])
        router = Starlette(routes=[Route("/v1/images", answer, methods=["POST"])])
        transports = [httpx.ASGITransport(app) for app in (group, router)]
        clients = [httpx.AsyncClient(transport=t, base_url="http://x") for t in transports]
        async with clients[0], clients[1]:
            router.state.group = clients[0]
            parent = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
            assert (await clients[1].post("/v1/images", headers=parent)).text == "image"

    asyncio.run(call())
    spans = {span.name: span for span in exported.get_finished_spans()}
    assert set(spans) == {"request", "route", "queue", "generate", "wait"}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {"ab" * 16}
    assert f"{parent_of(spans['request']):016x}" == "cd" * 8
    assert parent_of(spans["route"]) == parent_of(spans["queue"]) == id_of(spans["request"])
    assert parent_of(spans["generate"]) == id_of(spans["queue"])
    assert parent_of(spans["wait"]) == id_of(spans["generate"])
    assert (spans["wait"].start_time, spans["wait"].end_time) == (10**12, 10**12 + 250_000_000)
    assert dict(spans["generate"].attributes) == {"catimage.candidate": "small"}


def parent_of(span: ReadableSpan) -> int:
    return span.parent.span_id if span.parent else 0


def id_of(span: ReadableSpan) -> int:
    return span.context.span_id if span.context else 0


def test_a_failed_span_has_the_class_of_the_exception_only(exported: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError), tracing.tracing().span("generate"):
        raise ValueError("a red ring")
    (span,) = exported.get_finished_spans()
    assert span.status.description == "ValueError" and not span.status.is_ok
    assert "red ring" not in span.to_json()


def test_traces_are_off_by_default_and_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tracing, "_SHARED", [])
    assert tracing.configure("test").provider is None
    off = tracing.tracing()
    assert off.begin("route").headers() == off.headers() == {} and isinstance(
        off.begin("route"), Span
    )

    def use() -> None:
        with off.span("request", route="/v1/images"):
            off.begin("route").end()

    assert min(timeit.repeat(use, number=1000, repeat=5)) < 0.02  # 20 microseconds each


def test_opentelemetry_is_not_imported_without_its_variables() -> None:
    script = (
        "import sys\nfrom catimage.serving.telemetry.facade import Telemetry, configure\n"
        "configure('router')\nTelemetry().tracing.begin('route').end()\n"
        "heavy = {'opentelemetry', 'pandas', 'pyarrow', 'sklearn', 'torch', 'mlflow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {"PATH": "/usr/bin"}
    command = [sys.executable, "-c", script]
    assert subprocess.check_output(command, env=environment, text=True).strip() == "[]"


def test_the_variables_of_opentelemetry_switch_the_traces_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def configured(**variables: str) -> Tracing:
        monkeypatch.setattr(tracing, "_SHARED", [])
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return tracing.configure("catimage-router")

    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    on = configured(**endpoint)
    assert on.provider is not None
    assert on.provider.resource.attributes["service.name"] == "catimage-router"
    on.close()
    assert configured(**endpoint, OTEL_SDK_DISABLED="true").provider is None
    assert configured(**endpoint, OTEL_TRACES_EXPORTER="none").provider is None
    with pytest.raises(InputError, match="OTEL_TRACES_EXPORTER: unknown value 'zipkin'"):
        configured(OTEL_TRACES_EXPORTER="zipkin")
    monkeypatch.setattr(tracing, "_SHARED", [])
