"""The table and the sentences that ``catimage compare`` prints."""

from __future__ import annotations

from typing import Any

from catimage.common.formatting import format_gain, format_number, format_percent, format_share
from catimage.evaluation.comparison import POLICIES
from catimage.evaluation.intervals import verdict


def comparison_table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells of the printed table."""
    header = [
        "estimator",
        "gain [95% interval]",
        "share of best single's cost",
        "gain at equal cost",
        "match: share of best single's cost",
        "match: gain",
        "curve gain over fixed",
        "fit (s)",
        "decision (ms)",
        "verdict",
    ]
    return header, [_cells(row) for row in rows]


def _cells(row: dict[str, Any]) -> list[str]:
    gains = [row[key] for key in (*POLICIES, "mean_curve_gain")]
    best, at_cost, match, curve_gain = (format_gain(g["gain"], g["interval"]) for g in gains)
    return [
        row["estimator"],
        best,
        format_percent(row["max_quality"]["cost_ratio"]),
        at_cost,
        format_share(row["match"]["cost_ratio"], row["match"]["cost_ratio_interval"]),
        match,
        curve_gain,
        *(format_number(row.get(key), 3) for key in ("fit_seconds", "decision_ms")),
        row["verdict"],
    ]


def comparison_lines(rows: list[dict[str, Any]], chosen: str) -> list[str]:
    """Return two sentences about the gain and the cost of the estimator ``chosen``."""
    row = next(r for r in rows if r["estimator"] == chosen)
    best, match = row["max_quality"], row["match"]
    gain, of_cost = format_gain(best["gain"], best["interval"]), _share_of_cost(best)
    first = {
        "better": f"gains {gain} over the best single candidate{of_cost}",
        "worse": f"loses to the best single candidate: {gain}",
        "nothing significant": f"has no significant gain over the best single candidate: {gain}",
    }[row["verdict"]]
    gain, of_cost = format_gain(match["gain"], match["interval"]), _share_of_cost(match)
    second = {
        "worse": f"is worse: {gain}",
        "better": f"is better: {gain}",
        "nothing significant": f"is not significantly different (difference {gain})",
    }[verdict(match["interval"])]
    return [
        f"{chosen} {first}.",
        f"Calibrated to the quality of the best single candidate on the other folds, {chosen}"
        f" {second}{of_cost}.",
    ]


def _share_of_cost(statistics: dict[str, Any]) -> str:
    """Return a phrase about the share of the best single candidate's cost; empty if that is 0."""
    share = statistics["cost_ratio"]
    return "" if share is None else f", at {format_percent(share)} of that candidate's cost"
