"""The text that a run ends with: our curve against each fixed candidate at its own cost, and the
budget.
"""

from __future__ import annotations

from typing import Any

from catimage.evaluation import text as words
from catimage.evaluation.intervals import verdict


def summary(document: dict[str, Any]) -> str:
    """``metrics.json`` as a text of at most 120 columns or so.

    The table's figures are the honest ones: lambda was chosen on the validation split for each
    candidate's cost.
    """
    method = document["methods"][document["budget"]["estimator"]]
    rows = [_cells(row) for row in method["by_candidate"]]
    header = [
        "candidate",
        f"cost ({document['cost_unit']})",
        "quality",
        "our cost",
        "our quality",
        "gain [95% interval]",
        "verdict",
    ]
    return "\n".join(
        [
            (
                f"Our curve ({document['budget']['estimator']}) against each fixed candidate at its"
                f" own cost; {words.direction(document)}"
            ),
            "",
            *table(header, rows),
            "",
            words.headline(document),
            *words.rivals(document),
            words.budget_line(document),
            *filter(
                None, (words.few(document), words.left_out(document), words.noise_line(document))
            ),
            words.decision_line(document),
        ]
    )


def _cells(row: dict[str, Any]) -> list[str]:
    figures = [row["cost"], row["fixed_quality"], row["selected_cost"], row["selected_quality"]]
    return [
        row["candidate"],
        *map(words.number, figures),
        words.gain(row["gain"], row["interval"]),
        verdict(row["interval"]),
    ]


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of aligned columns: the first and the last to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [_line(row, widths) for row in (header, ["-" * width for width in widths], *rows)]
    return [line.rstrip() for line in lines]


def _line(row: list[str], widths: list[int]) -> str:
    first, *middle, last = row
    return "  ".join(
        [
            first.ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)),
            last,
        ]
    )
