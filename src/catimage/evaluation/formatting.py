"""The key ``plateau`` of ``metrics.json`` in sentences."""

from __future__ import annotations

from typing import Any

from catimage.evaluation import text as words

FOUND_BY = {
    "given": "weights as given",
    "gain": "weights of greatest gain over UNIFORM",
    "budget": "weights calibrated to a budget",
}


def plateau_lines(document: dict[str, Any] | None) -> list[str]:
    """What a run prints of BudgetFusion's rule; nothing where it was not asked for."""
    if document is None:
        return []
    return [
        "",
        rule(document),
        *(against_uniform(document, metric) for metric in document["gains"]),
        *slower(document),
    ]


def rule(document: dict[str, Any]) -> str:
    """How many steps the rule gives, at which compute."""
    ours, reference, weights = (
        document["conditions"]["ours"],
        document["conditions"]["reference"],
        document["weights"],
    )
    omega = ", ".join(f"{m} {words.number(w, 3)}" for m, w in weights["omega"].items())
    share = words.percent(ours["cost"] / reference["cost"]) if reference["cost"] else "-"
    read = ", read literally" if document["literal"] else ""
    return (
        f"Plateau rule{read} ({document['estimator']}; {FOUND_BY[weights['found_by']]}: {omega}):"
        f" {words.number(ours['steps'], 3)} steps a prompt on average, {words.number(ours['cost'])}"
        f" {document['unit']}, {share} of the reference, {document['reference']}."
    )


def against_uniform(document: dict[str, Any], metric: str) -> str:
    """OURS against UNIFORM by one metric: equation 9, or the gain itself where a quotient makes no
    sense.
    """
    found = document["gains"][metric]["uniform"]
    said = {
        "better": "gains",
        "worse": "loses",
        "nothing significant": "gains nothing significant:",
    }[found["verdict"]]
    relative = "" if found["relative"] is None else f", {relative_gain(found)} by equation 9"
    return (
        f"  {metric}: OURS {said} {words.gain(found['gain'], found['interval'])} over UNIFORM at"
        f" the same compute{relative}."
    )


def relative_gain(found: dict[str, Any]) -> str:
    """``+6.6% [5.0%, 8.2%]``."""
    if found["relative"] is None:
        return "-"
    low, high = found["relative_interval"]
    return f"{100 * found['relative']:+.3g}% [{100 * low:.3g}%, {100 * high:.3g}%]"


def slower(document: dict[str, Any]) -> list[str]:
    """Seconds an image of OURS and REFERENCE (figure 8b), where they are known."""
    ours, reference = (
        document["conditions"]["ours"]["seconds"],
        document["conditions"]["reference"]["seconds"],
    )
    if ours is None or reference is None:
        return []
    said = [
        f"{words.number(s['mean'], 3)} ± {words.number(s['deviation'], 2)}"
        for s in (ours, reference)
    ]
    return [
        f"  Seconds an image, as measured when they were made: OURS {said[0]}, REFERENCE {said[1]}."
    ]
