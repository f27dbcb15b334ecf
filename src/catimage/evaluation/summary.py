"""The text that the stage ``evaluate`` prints.

It compares the router with each fixed candidate, and describes the budget and the decision cost.
"""

from __future__ import annotations

from typing import Any

from catimage.common.formatting import format_gain, format_number, format_table
from catimage.evaluation import text
from catimage.evaluation.image_sets.text import image_set_lines
from catimage.evaluation.intervals import verdict
from catimage.evaluation.match_text import match_line
from catimage.evaluation.plateau.text import plateau_lines


def summary(document: dict[str, Any]) -> str:
    """Summarize the core of ``metrics.json`` and the decision cost in a table and sentences.

    The results in the table are held-out: for each candidate's cost, lambda is selected on the
    validation split.
    """
    estimator = document["budget"]["estimator"]
    rows = document["methods"][estimator]["by_candidate"]
    header = [
        "candidate",
        f"cost ({document['cost_unit']})",
        "quality",
        "router cost",
        "router quality",
        "gain [95% interval]",
        "verdict",
    ]
    notes = (
        text.few_prompts_line(document),
        text.left_out_line(document),
        text.noise_line(document),
    )
    return "\n".join(
        [
            f"The router ({estimator}) compared with each fixed candidate at that candidate's cost;"
            f" {text.direction(document)}",
            "",
            *format_table(header, [_cells(row) for row in rows]),
            "",
            match_line(document),
            text.headline(document),
            *text.further_comparisons(document),
            text.budget_line(document),
            *filter(None, notes),
            text.decision_line(document),
        ]
    )


def full_summary(document: dict[str, Any]) -> str:
    """Summarize ``metrics.json`` with its optional parts, set metrics and the plateau rule."""
    lines = [*image_set_lines(document["sets"]), *plateau_lines(document["plateau"])]
    return "\n".join([summary(document), *lines])


def _cells(row: dict[str, Any]) -> list[str]:
    values = [row["cost"], row["fixed_quality"], row["selected_cost"], row["selected_quality"]]
    return [
        row["candidate"],
        *map(format_number, values),
        format_gain(row["gain"], row["interval"]),
        verdict(row["interval"]),
    ]
