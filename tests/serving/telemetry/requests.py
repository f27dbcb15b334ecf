"""Requests, decisions and results that the tests of the telemetry log."""

from __future__ import annotations

import numpy as np

from catimage.serving.messages import ApiKey, ImageRequest, Result, Routed

PROMPT = "two small red rings beside the harbour"
KEY = ApiKey("key_1", "an application")


def image_request(number: int = 0, **changes: object) -> ImageRequest:
    """Return a request for two images."""
    fields = {"prompt": PROMPT, "request_id": f"request-{number}", "draw": number, "n": 2}
    return ImageRequest(**fields | {"key": KEY, "user": "jane@example.org", "seed": 7} | changes)


def routed(**changes: object) -> Routed:
    """Return a decision for the candidate ``small``."""
    fields = {
        "candidate": "small",
        "ranked": ("small", "large"),
        "qualities": {"small": 0.3, "large": 0.35},
        "costs": {"small": 1.0, "large": 4.0},
        "propensities": {"small": 0.9, "large": 0.1},
        "lam": 0.02,
        "scope": "service",
        "router_version": "3",
        "shadow": "large",
        "tokens": 77,
        "truncated": True,
        "embedding": np.linspace(-1, 1, 512, dtype=np.float16),
        "seconds": 0.01,
    }
    return Routed(**fields | changes)


def result(**changes: object) -> Result:
    """Return the summary of two images of the candidate ``large``, after ``small`` failed."""
    seconds = {"route": 0.01, "queue": 0.2, "generate": 0.5, "total": 0.75}
    fields = {"candidate": "large", "routed": routed(), "cost": 8.0, "saved": -2.0}
    fields |= {"reference": "medium", "seconds": seconds, "fallbacks": {"small": "timeout"}}
    return Result(**fields | {"batch_size": 4} | changes)
