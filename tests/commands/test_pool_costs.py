"""Pool files without their costs."""

from __future__ import annotations

from typing import Any

import pytest

from catimage.commands.pool_costs import without_amounts, without_costs

POOL = {
    "usd_per_tflop": 0.5,
    "generators": {"a": {"unit": "kept"}},
    "candidates": [{"candidate": "m", "cost": 2, "unit": "usd", "steps": 1}, {"candidate": "n"}],
}


def test_amounts_are_replaced() -> None:
    assert without_amounts(POOL) == {
        "usd_per_tflop": "given",
        "generators": {"a": {"unit": "kept"}},
        "candidates": [
            {"candidate": "m", "cost": "given", "unit": "usd", "steps": 1},
            {"candidate": "n"},
        ],
    }


def test_costs_prices_and_units_are_removed() -> None:
    assert without_costs(POOL) == {
        "generators": {"a": {"unit": "kept"}},
        "candidates": [{"candidate": "m", "steps": 1}, {"candidate": "n"}],
    }


@pytest.mark.parametrize("candidates", [None, "m", ["m", None], {}])
def test_invalid_candidates_are_no_error_here(candidates: Any) -> None:
    tree = {"candidates": candidates}
    kept = candidates if isinstance(candidates, list) else []
    assert without_amounts(tree) == without_costs(tree) == {"candidates": kept}
