"""The content of a pool file without its costs, for the stages that need none."""

from __future__ import annotations

from typing import Any


def without_amounts(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a pool file, with the amounts of prices and costs replaced."""
    candidates = tree.get("candidates")
    kept = [
        {**c, "cost": "given"} if isinstance(c, dict) and "cost" in c else c
        for c in (candidates if isinstance(candidates, list) else [])
    ]
    prices = {key: "given" for key in ("usd_per_tflop",) if key in tree}
    return {**tree, **prices, "candidates": kept}


def without_costs(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a pool file without prices, costs and units."""
    candidates = tree.get("candidates")
    kept = [
        {key: c[key] for key in c if key not in ("cost", "unit")} if isinstance(c, dict) else c
        for c in (candidates if isinstance(candidates, list) else [])
    ]
    return {key: tree[key] for key in tree if key != "usd_per_tflop"} | {"candidates": kept}
