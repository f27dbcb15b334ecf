"""Rows of a decision log for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from catimage.data.schema import DECISIONS

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
COSTS = {"mini-1": 1.0, "mini-2": 2.0, "mini-4": 4.0}


def decision(minute: float, candidate: str = "mini-1", **values: Any) -> dict[str, Any]:
    """A successful request at a time after noon, which counts against the budget of the service."""
    row = dict.fromkeys(DECISIONS.names) | {
        "time": NOON + timedelta(minutes=minute),
        "request_id": f"request-{minute:g}",
        "prompt_id": f"prompt-{minute:g}",
        "router_version": "1",
        "scope": "service",
        "lambda": 0.1,
        "pressure": 0.0,
        "candidate": candidate,
        "propensities": [(candidate, 1.0)],
        "qualities": [(name, 0.5 + cost / 20) for name, cost in COSTS.items()],
        "served": candidate,
        "images": 1,
        "cost": COSTS.get(candidate, 0.0),
        "unit": "tflops",
        "status": 200,
    }
    return row | values


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as ``read_decisions`` returns them."""
    table = pd.DataFrame(rows, columns=DECISIONS.names)
    table["qualities"] = [dict(row["qualities"]) for row in rows]
    table["propensities"] = [dict(row["propensities"]) for row in rows]
    table["time"] = pd.to_datetime(table["time"], utc=True)
    return table


def drawn(shares: list[float], n: int, seed: int) -> pd.DataFrame:
    """Decisions whose candidates are drawn with the given shares."""
    names = np.random.default_rng(seed).choice(list(COSTS), n, p=shares)
    return frame([decision(i, str(name)) for i, name in enumerate(names)])
