"""OpenTelemetry spans of a request across the router and the generator services.

Traces are off unless one of OpenTelemetry's standard variables selects an exporter; then nothing of
OpenTelemetry is imported, and a span costs less than a microsecond.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from catimage.errors import InputError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables with the address of a collector, either of which switches the traces on."""

Attribute = str | int | float | bool


class Span:
    """One timed operation; without traces, all methods do nothing."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def set(self, **attributes: Attribute) -> None:
        """Set attributes; prompts and secrets must not be among them."""
        if self._span is not None:
            self._span.set_attributes({f"catimage.{k}": v for k, v in attributes.items()})

    def end(self, error: BaseException | None = None) -> None:
        """End the span.

        Args:
            error: why the operation failed. Only the class of the exception is recorded, because
                its message may contain the prompt.
        """
        if self._span is None:
            return
        if error is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR, type(error).__name__)
        self._span.end()

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that make spans of another process children of this span."""
        if self._span is None:
            return {}
        from opentelemetry.trace.propagation import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, set_span_in_context(self._span))
        return carrier


class Tracing:
    """The tracer of a process; see :func:`configure`."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.provider = provider
        self._tracer = provider.get_tracer("catimage") if provider else None

    def begin(
        self,
        name: str,
        parent: Span | None = None,
        headers: Mapping[str, str] | None = None,
        **attributes: Attribute,
    ) -> Span:
        """Begin a span, which :meth:`Span.end` ends.

        In asynchronous generators, use this method instead of :meth:`span`: their context may
        change between two steps.

        Args:
            name: the name: ``request``, ``route``, ``queue``, ``generate`` or ``encode``.
            parent: the parent; by default the span of the enclosing :meth:`span`.
            headers: HTTP headers of a request from another process, whose span is the parent.
            attributes: attributes of the span.
        """
        if self._tracer is None:
            return Span()
        span = Span(self._tracer.start_span(name, _context(parent, headers)))
        span.set(**attributes)
        return span

    def record(self, name: str, parent: Span, start: float, seconds: float) -> None:
        """Record an operation that has ended.

        Args:
            name: the name of the span.
            parent: the parent.
            start: time of the beginning, in seconds since the epoch.
            seconds: the duration.
        """
        if self._tracer is None:
            return
        nanoseconds = int(start * 1e9)
        span = self._tracer.start_span(name, _context(parent, None), start_time=nanoseconds)
        span.end(nanoseconds + int(seconds * 1e9))

    @contextmanager
    def span(
        self,
        name: str,
        parent: Span | None = None,
        headers: Mapping[str, str] | None = None,
        **attributes: Attribute,
    ) -> Iterator[Span]:
        """Begin a span that is the parent of those within the ``with`` block, and end it after it.

        The arguments are those of :meth:`begin`.
        """
        if self._tracer is None:
            yield Span()
            return
        from opentelemetry.trace import use_span

        span, failure = self.begin(name, parent, headers, **attributes), None
        try:
            with use_span(span._span, record_exception=False, set_status_on_exception=False):
                yield span
        except BaseException as error:
            failure = error
            raise
        finally:
            span.end(failure)

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers of the current trace; empty without one."""
        headers: dict[str, str] = {}
        if self._tracer is not None:
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            TraceContextTextMapPropagator().inject(headers)
        return headers

    def close(self) -> None:
        """Export the spans that have not been exported."""
        if self.provider is not None:
            self.provider.shutdown()


def _context(parent: Span | None, headers: Mapping[str, str] | None) -> Context | None:
    if parent is not None and parent._span is not None:
        from opentelemetry.trace.propagation import set_span_in_context

        return set_span_in_context(parent._span)
    if headers is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        names = ("traceparent", "tracestate")
        return TraceContextTextMapPropagator().extract(
            {name: headers[name] for name in names if name in headers}
        )
    return None


_LOCK = threading.Lock()
_SHARED: list[Tracing] = []


def tracing() -> Tracing:
    """Return the tracer of this process; it records nothing before :func:`configure`."""
    return _SHARED[0] if _SHARED else _OFF


def configure(service: str, provider: TracerProvider | None = None) -> Tracing:
    """Create the tracer of this process from OpenTelemetry's variables; later calls return it.

    Traces are on if ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` or
    ``OTEL_TRACES_EXPORTER`` is set (to ``otlp`` or ``console``) and ``OTEL_SDK_DISABLED`` is not
    ``true``.

    Args:
        service: the value of the attribute ``service.name`` if ``OTEL_SERVICE_NAME`` is not set.
        provider: a provider, which replaces the variables and the previous tracer.

    Raises:
        InputError: the exporter is unknown or its package is not installed.
    """
    with _LOCK:
        if provider is not None or not _SHARED:
            _SHARED[:] = [Tracing(provider or _provider(service))]
        return _SHARED[0]


def _provider(service: str) -> TracerProvider | None:
    """Return the provider that the environment variables describe; None if traces are off."""
    default = "otlp" if any(os.environ.get(name) for name in ENDPOINTS) else "none"
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or default
    if exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", service)
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    return provider


def _exporter(name: str) -> Any:
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if name != "otlp":
        raise InputError(
            f"OTEL_TRACES_EXPORTER: unknown value {name!r}. Use otlp, console or none."
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as error:
        raise InputError(
            "OTEL_EXPORTER_OTLP_ENDPOINT: the OTLP exporter is not installed. Run pip install"
            " 'catimage[otel]'."
        ) from error
    return OTLPSpanExporter()


_OFF = Tracing()
