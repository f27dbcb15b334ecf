"""Sentences about the key ``plateau`` of ``metrics.json``.

OURS, UNIFORM and REFERENCE are the conditions of the BudgetFusion paper, defined in
:mod:`catimage.evaluation.plateau.conditions`.
"""

from __future__ import annotations

from typing import Any

from catimage.common.formatting import format_number, format_percent
from catimage.evaluation.text import compared_with

FOUND_BY = {
    "given": "weights as given",
    "gain": "weights of greatest gain over UNIFORM",
    "budget": "weights calibrated to a budget",
}
"""Descriptions of the ways in which the weights of equation 7 are determined."""


def plateau_lines(document: dict[str, Any] | None) -> list[str]:
    """Return sentences about the plateau rule; an empty list if it was not evaluated."""
    if document is None:
        return []
    return [
        "",
        rule_line(document),
        *(uniform_line(document, metric) for metric in document["gains"]),
        *seconds_lines(document),
    ]


def rule_line(document: dict[str, Any]) -> str:
    """Return a sentence about the weights, the mean number of steps and the mean cost."""
    conditions, weights = document["conditions"], document["weights"]
    ours, reference = conditions["ours"], conditions["reference"]
    omega = ", ".join(f"{m} {format_number(w, 3)}" for m, w in weights["omega"].items())
    share = format_percent(ours["cost"] / reference["cost"]) if reference["cost"] else "-"
    literal = ", literal equation 7" if document["literal"] else ""
    return (
        f"Plateau rule{literal} ({document['estimator']}; {FOUND_BY[weights['found_by']]}:"
        f" {omega}): {format_number(ours['steps'], 3)} steps per prompt on average,"
        f" {format_number(ours['cost'])} {document['unit']}, {share} of the cost of"
        f" the reference condition {document['reference']}."
    )


def uniform_line(document: dict[str, Any], metric: str) -> str:
    """Return a sentence that compares OURS with UNIFORM by one metric.

    It includes the relative gain, equation 9 of the paper, if that is defined.
    """
    gain = document["gains"][metric]["uniform"]
    relative = "" if gain["relative"] is None else f", {relative_gain(gain)} by equation 9"
    return f"  {metric}: OURS {compared_with(gain, 'UNIFORM at the same compute')}{relative}."


def relative_gain(gain: dict[str, Any]) -> str:
    """Format equation 9 and its interval as ``+6.6% [5.0%, 8.2%]``; a dash if it is undefined."""
    if gain["relative"] is None:
        return "-"
    low, high = gain["relative_interval"]
    return f"{100 * gain['relative']:+.3g}% [{100 * low:.3g}%, {100 * high:.3g}%]"


def seconds_lines(document: dict[str, Any]) -> list[str]:
    """Return a line that compares the seconds per image of OURS and REFERENCE (figure 8b).

    The numbers after ``±`` are standard deviations over prompts. The list is empty if the seconds
    are unknown.
    """
    seconds = [document["conditions"][name]["seconds"] for name in ("ours", "reference")]
    if None in seconds:
        return []
    ours, reference = (
        f"{format_number(s['mean'], 3)} ± {format_number(s['deviation'], 2)}" for s in seconds
    )
    return [f"  Seconds per image, measured during generation: OURS {ours}, REFERENCE {reference}."]
