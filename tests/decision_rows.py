"""Rows of the decision log for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from catimage.data.decisions import write_decisions
from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import DECISIONS

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def decision_row(minute: float, prompt: str | None, **values: object) -> dict[str, Any]:
    """Return the row of an answered request that arrived ``minute`` minutes after noon."""
    row: dict[str, Any] = dict.fromkeys(DECISIONS.names)
    row |= {
        "time": NOON + timedelta(minutes=minute),
        "request_id": f"request {minute:g}",
        "prompt_id": prompt_id(prompt or "?"),
        "prompt": prompt,
        "lambda": 0.01,
        "candidate": "mini-1",
        "propensities": [("mini-1", 0.8), ("mini-2", 0.1), ("mini-4", 0.1)],
        "qualities": [],
        "served": "mini-1",
        "images": 1,
        "cost": 1.0,
        "unit": "tflops",
        "status": 200,
    }
    return row | values


def save_decisions(folder: Path, rows: list[dict[str, Any]], replica: str = "a") -> Path:
    """Write rows to a new file of a decision log."""
    return write_decisions(folder, replica, len(list(folder.glob("*.parquet"))), rows)
