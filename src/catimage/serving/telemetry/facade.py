"""The telemetry of a process: what the other parts of the service report."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from pathlib import Path

from catimage.params.serving import ServingParams
from catimage.serving.messages import Result, Routed, RouteRequest
from catimage.serving.telemetry import logs, metrics
from catimage.serving.telemetry.decision_log import DecisionLog, LoggedDecision
from catimage.serving.telemetry.tracing import Tracing, tracing

_ACCESS = logging.getLogger("catimage.access")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,39}")
BREAKER_STATES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}
"""Values of the metric ``catimage_breaker_state``."""


class Telemetry:
    """Counts, logs and traces what a process does. All methods are fast and thread-safe.

    Args:
        log: the decision log; None if decisions are not logged.
    """

    def __init__(self, log: DecisionLog | None = None) -> None:
        self.metrics = metrics.shared_metrics()
        self.log, self._version, self._unit = log, "", ""

    @classmethod
    def open(
        cls, settings: ServingParams, folder: Path | None, replica: str, secret: bytes
    ) -> Telemetry:
        """Return the telemetry of a router process.

        Args:
            settings: the settings of the service.
            folder: the folder of the decision log; None to log no decisions.
            replica: identifier of this process, which no other running process has.
            secret: key of the hashes of user ids.
        """
        if folder is None or not settings.log_decisions:
            return cls()
        log = DecisionLog(
            folder,
            replica,
            secret,
            metrics.shared_metrics(),
            log_prompts=settings.log_prompts,
            days=settings.log_days,
        )
        return cls(log)

    @property
    def tracing(self) -> Tracing:
        """The tracer of the process."""
        return tracing()

    def request(
        self, route: str, status: int, seconds: float, method: str = "", code: str = ""
    ) -> None:
        """Count and log a finished HTTP request.

        Args:
            route: the template of the route, such as ``/v1/models/{model}``; for unknown paths,
                ``not_found``.
            status: the HTTP status; 499 if the client disconnected.
            seconds: time from the arrival to the last byte.
            method: the HTTP method.
            code: the code of the error, such as ``rate_limit_exceeded``.
        """
        self.metrics.add("catimage_requests_total", route=route, status=str(status))
        self.metrics.observe("catimage_request_seconds", seconds, route=route)
        fields = {"route": route, "method": method, "status": status, "seconds": round(seconds, 6)}
        level = logging.WARNING if status >= 500 else logging.INFO
        _ACCESS.log(level, "request", extra=fields | ({"code": code} if code else {}))

    def in_progress(self, route: str, change: int) -> None:
        """Count a request that begins (1) or ends (-1)."""
        self.metrics.add("catimage_requests_in_progress", change, route=route)

    def decision(
        self,
        routed: Routed,
        request: RouteRequest,
        result: Result | None,
        status: int,
        seconds: float | None = None,
    ) -> None:
        """Count and log a request that was routed, once, when it has ended.

        Args:
            routed: the decision.
            request: the request.
            result: the summary of the images; None if the request failed, was cancelled or was for
                decisions only.
            status: the HTTP status; 499 if the client disconnected.
            seconds: time from the arrival to the end; by default, that of the result.
        """
        if routed.truncated:
            self.metrics.add("catimage_prompts_truncated_total")
        if (quality := routed.qualities.get(routed.candidate)) is not None:
            self.metrics.observe("catimage_predicted_quality", quality)
        if result is not None:
            self._images(request.n, result)
        taken = result.seconds.get("total", 0.0) if result else routed.seconds
        taken = taken if seconds is None else seconds
        if self.log is not None:
            now = datetime.now(UTC)
            self.log.append(LoggedDecision(request, routed, result, status, taken, self._unit, now))
        fields = {"status": status, "seconds": round(taken, 6), "candidate": routed.candidate}
        if result is not None:
            fields |= {"candidate": result.candidate, "cost": result.cost, "saved": result.saved}
            fields |= {"images": request.n, "batch_size": result.batch_size}
        logging.getLogger("catimage.decisions").info("decision", extra=fields)

    def _images(self, n: int, result: Result) -> None:
        candidate = result.candidate
        self.metrics.add("catimage_images_total", n, candidate=candidate)
        self.metrics.add("catimage_cost_total", result.cost, candidate=candidate, unit=self._unit)
        reference = max(result.cost + result.saved, 0.0)
        self.metrics.add("catimage_reference_cost_total", reference, unit=self._unit)
        self.metrics.add("catimage_saved_total", max(result.saved, 0.0), unit=self._unit)
        for stage, seconds in result.seconds.items():
            self.metrics.observe(
                "catimage_image_seconds", seconds, candidate=candidate, stage=stage
            )

    def fallback(self, failed: str, candidate: str, reason: str) -> None:
        """Count an attempt with another candidate.

        Args:
            failed: the candidate that failed.
            candidate: the candidate that is tried next.
            reason: an identifier such as ``timeout``; texts are counted as ``other``.
        """
        labels = {"from": failed, "to": candidate, "reason": _identifier(reason)}
        self.metrics.add("catimage_fallbacks_total", **labels)
        _ACCESS.warning("fallback", extra=labels)

    def rejection(self, reason: str) -> None:
        """Count a refused request, by the code of its error, such as ``overloaded``."""
        self.metrics.add("catimage_rejections_total", reason=_identifier(reason))

    def budget(self, scope: str, lam: float, budget: float, error: float) -> None:
        """Record the state of a budget.

        Args:
            scope: the budget, such as ``service`` or ``key:ID``.
            lam: lambda, in quality per unit of cost.
            budget: mean cost per image.
            error: running mean cost over the budget, minus 1.
        """
        self.metrics.set("catimage_lambda", lam, scope=scope)
        self.metrics.set("catimage_budget", budget, scope=scope)
        self.metrics.set("catimage_budget_error_ratio", error, scope=scope)

    def pressure(self, value: float) -> None:
        """Record the price of one second of device time, in quality."""
        self.metrics.set("catimage_pressure", value)

    def queue(self, group: str, images: int, seconds: float) -> None:
        """Record the queue of a generator service: waiting images, and the estimated wait."""
        self.metrics.set("catimage_queue_images", images, group=group)
        self.metrics.set("catimage_queue_seconds", seconds, group=group)

    def batch_size(self, candidate: str, size: int) -> None:
        """Record the number of images of a batch; called once per batch by the generators."""
        self.metrics.observe("catimage_batch_size", size, candidate=candidate)

    def breaker(self, candidate: str, state: str) -> None:
        """Record the state of a circuit breaker: ``closed``, ``half_open`` or ``open``."""
        self.metrics.set("catimage_breaker_state", BREAKER_STATES[state], candidate=candidate)

    def rate_limiter_outage(self) -> None:
        """Count a request that was not limited because the store of the limits failed."""
        self.metrics.add("catimage_rate_limiter_outages_total")

    def router(self, version: str, unit: str) -> None:
        """Record the version and the cost unit of the router that this process serves."""
        if self._version:
            self.metrics.set("catimage_router_info", 0.0, version=self._version)
        self._version, self._unit = version, unit
        self.metrics.set("catimage_router_info", 1.0, version=version)

    def exposition(self) -> tuple[bytes, str]:
        """Return the metrics of all processes in Prometheus' text format, and its content type."""
        return metrics.exposition()

    def close(self) -> None:
        """Write the decisions and spans that wait. It may take some seconds."""
        if self.log is not None:
            self.log.close()
        self.tracing.close()


def configure(service: str) -> None:
    """Configure the logs and the traces of a process, at its start.

    Args:
        service: name of the process, such as ``router`` or ``generator-tiny``.

    Raises:
        InputError: an environment variable of the logs or traces is invalid.
    """
    from catimage.serving.telemetry.tracing import configure as configure_traces

    logs.configure(service)
    configure_traces(f"catimage-{service}")


def _identifier(text: str) -> str:
    return text if _IDENTIFIER.fullmatch(text) else metrics.OTHER
