"""The Prometheus metrics of the service: names, types, labels and buckets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
"""Upper bounds of the buckets of durations."""
QUALITY = (
    *(-100.0, -30.0, -10.0, -3.0, -2.0, -1.5, -1.0, -0.5, -0.2, 0.0),
    *(0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *(1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0),
)
"""Upper bounds of the buckets of predicted quality, for metrics of any range."""

Mode = Literal["livemostrecent", "livesum", "livemax"]


@dataclass(frozen=True)
class Family:
    """One metric.

    Attributes:
        kind: the type of the metric.
        text: the description.
        labels: the names of the labels.
        buckets: the upper bounds of the buckets of a histogram.
        mode: how a gauge combines the values of several processes.
    """

    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    mode: Mode = "livemostrecent"


METRICS = {
    "catimage_requests_total": Family("counter", "Requests by route.", ("route", "status")),
    "catimage_request_seconds": Family(
        "histogram", "Time from the arrival of a request to its last byte.", ("route",), SECONDS
    ),
    "catimage_requests_in_progress": Family(
        "gauge", "Requests that are being answered.", ("route",), mode="livesum"
    ),
    "catimage_images_total": Family("counter", "Images that were returned.", ("candidate",)),
    "catimage_image_seconds": Family(
        "histogram",
        "Time of each stage of a request for images: route, queue, generate and total.",
        ("candidate", "stage"),
        SECONDS,
    ),
    "catimage_queue_images": Family("gauge", "Images that wait for a device.", ("group",)),
    "catimage_queue_seconds": Family(
        "gauge", "Estimated time until an image that arrives now is started.", ("group",)
    ),
    "catimage_batch_size": Family(
        "histogram",
        "Images per batch of a generator.",
        ("candidate",),
        (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0),
    ),
    "catimage_cost_total": Family(
        "counter", "Cost of the images that were returned.", ("candidate", "unit")
    ),
    "catimage_reference_cost_total": Family(
        "counter", "Cost that the same images have with the reference candidate.", ("unit",)
    ),
    "catimage_saved_total": Family(
        "counter",
        "Saved cost of the requests that cost less than with the reference candidate. The balance"
        " is catimage_reference_cost_total minus catimage_cost_total.",
        ("unit",),
    ),
    "catimage_lambda": Family("gauge", "Lambda, in quality per unit of cost.", ("scope",)),
    "catimage_budget": Family("gauge", "Budget: mean cost per image.", ("scope",)),
    "catimage_budget_error_ratio": Family(
        "gauge", "Running mean cost over the budget, minus 1.", ("scope",)
    ),
    "catimage_pressure": Family(
        "gauge", "Price of one second of device time under load, in quality.", mode="livemax"
    ),
    "catimage_fallbacks_total": Family(
        "counter", "Attempts with another candidate.", ("from", "to", "reason")
    ),
    "catimage_rejections_total": Family("counter", "Refused requests.", ("reason",)),
    "catimage_predicted_quality": Family(
        "histogram", "Predicted quality of the selected candidate.", (), QUALITY
    ),
    "catimage_prompts_truncated_total": Family(
        "counter", "Prompts that were cut at the context of the text encoder."
    ),
    "catimage_router_info": Family(
        "gauge", "Router processes by the version of their router.", ("version",), mode="livesum"
    ),
    "catimage_breaker_state": Family(
        "gauge", "Circuit breaker: 0 closed, 1 half open, 2 open.", ("candidate",)
    ),
    "catimage_rate_limiter_outages_total": Family(
        "counter", "Requests that were not limited because the store of the limits failed."
    ),
    "catimage_decisions_logged_total": Family("counter", "Rows written to the decision log."),
    "catimage_decisions_dropped_total": Family(
        "counter", "Rows of the decision log that were lost.", ("reason",)
    ),
}
"""All metrics by name."""
