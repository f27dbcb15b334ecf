"""Sentences about the key ``plateau`` of ``metrics.json``."""

from __future__ import annotations

from typing import Any

from catimage.common.formatting import format_gain, format_number, format_percent

FOUND_BY = {
    "given": "weights as given",
    "gain": "weights of greatest gain over UNIFORM",
    "budget": "weights calibrated to a budget",
}


def plateau_lines(document: dict[str, Any] | None) -> list[str]:
    """Return the lines that a run prints about the plateau rule; empty if it was not evaluated."""
    if document is None:
        return []
    return [
        "",
        rule_line(document),
        *(uniform_line(document, metric) for metric in document["gains"]),
        *seconds_lines(document),
    ]


def rule_line(document: dict[str, Any]) -> str:
    """Describe the weights, the mean number of steps and the mean cost."""
    conditions, weights = document["conditions"], document["weights"]
    ours, reference = conditions["ours"], conditions["reference"]
    omega = ", ".join(f"{m} {format_number(w, 3)}" for m, w in weights["omega"].items())
    share = format_percent(ours["cost"] / reference["cost"]) if reference["cost"] else "-"
    literal = ", literal equation 7" if document["literal"] else ""
    return (
        f"Plateau rule{literal} ({document['estimator']}; {FOUND_BY[weights['found_by']]}:"
        f" {omega}): {format_number(ours['steps'], 3)} steps per prompt on average,"
        f" {format_number(ours['cost'])} {document['unit']}, {share} of the reference,"
        f" {document['reference']}."
    )


def uniform_line(document: dict[str, Any], metric: str) -> str:
    """Compare OURS with UNIFORM by one metric, and by equation 9 if it is defined."""
    gain = document["gains"][metric]["uniform"]
    verb = {
        "better": "gains",
        "worse": "loses",
        "nothing significant": "gains nothing significant:",
    }[gain["verdict"]]
    relative = "" if gain["relative"] is None else f", {relative_gain(gain)} by equation 9"
    return (
        f"  {metric}: OURS {verb} {format_gain(gain['gain'], gain['interval'])} over UNIFORM at the"
        f" same compute{relative}."
    )


def relative_gain(gain: dict[str, Any]) -> str:
    """Format equation 9 as ``+6.6% [5.0%, 8.2%]``; a dash if it is undefined."""
    if gain["relative"] is None:
        return "-"
    low, high = gain["relative_interval"]
    return f"{100 * gain['relative']:+.3g}% [{100 * low:.3g}%, {100 * high:.3g}%]"


def seconds_lines(document: dict[str, Any]) -> list[str]:
    """Compare the seconds per image of OURS and REFERENCE (figure 8b), if they are known."""
    seconds = [document["conditions"][name]["seconds"] for name in ("ours", "reference")]
    if None in seconds:
        return []
    ours, reference = (
        f"{format_number(s['mean'], 3)} ± {format_number(s['deviation'], 2)}" for s in seconds
    )
    return [f"  Seconds per image, measured during generation: OURS {ours}, REFERENCE {reference}."]
