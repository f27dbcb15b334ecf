"""``metrics.json`` in sentences. A gain whose interval contains 0 is called nothing significant, whatever its sign."""

from __future__ import annotations

from typing import Any

from catimage.evaluation.intervals import verdict
from catimage.evaluation.tables import ratio


def number(value: float | None, digits: int = 4) -> str:
    """A figure for people: four significant digits, a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def gain(value: float, interval: list[float]) -> str:
    """``+0.012 [0.008, 0.016]``."""
    low, high = interval
    return f"{value:+.3g} [{low:.3g}, {high:.3g}]"


def percent(share: float | None) -> str:
    """``55%``."""
    return "-" if share is None else f"{100 * share:.3g}%"


def compared(figures: dict[str, Any], rival: str) -> str:
    """What a ``gain`` and its ``interval`` say about a rival, to follow the word "router"."""
    said = gain(figures["gain"], figures["interval"])
    return {
        "better": f"gains {said} over {rival}",
        "worse": f"loses to {rival}: {said}",
        "nothing significant": f"gains nothing significant over {rival}: {said}",
    }[verdict(figures["interval"])]


def headline(document: dict[str, Any]) -> str:
    """The calibrated router against the best that its budget buys without one: a fixed candidate."""
    budget = document["budget"]
    if budget["best_fixed"] is None:
        return against_best_single(document)
    share = ratio(budget["realised_mean_cost"], budget["best_fixed"]["cost"])
    return _against("the best fixed candidate within its budget", budget["best_fixed"], share)


def against_best_single(document: dict[str, Any]) -> str:
    """The calibrated router against the best single candidate, whatever that costs."""
    figures = document["budget"]["best_single"]
    return _against("the best single candidate", figures, figures["cost_ratio"])


def _against(what: str, figures: dict[str, Any], share: float | None) -> str:
    of_cost = "" if share is None else f", at {percent(share)} of its cost"
    rival = f"{what}, {figures['candidate']}"
    return f"The router {compared(figures, rival)}{of_cost}."


def rivals(document: dict[str, Any]) -> list[str]:
    """The calibrated router against the best mix of two candidates, and against the best single one where it is not the headline's."""
    fixed, mix = document["budget"]["best_fixed"], document["budget"]["mix"]
    said = [f"The router {compared(mix, 'the best random mix of two candidates at the cost that it realised')}."] if mix else []
    if fixed and fixed["candidate"] != document["budget"]["best_single"]["candidate"]:
        said.append(against_best_single(document))
    return said


def budget_line(document: dict[str, Any]) -> str:
    """The calibrated lambda, and what it spends against the budget."""
    budget, unit = document["budget"], document["cost_unit"]
    low, high = map(number, budget["realised_mean_cost_interval"])
    spent = f"realised mean cost {number(budget['realised_mean_cost'])} [{low}, {high}] {unit} on {document['n_test']:,} test prompts"
    return f"lambda {number(budget['lambda'])} ({budget['estimator']}): {spent}, of a budget of {number(budget['target'])} {unit}."


def decision_line(document: dict[str, Any]) -> str:
    """What the router itself costs, beside the cheapest candidate where that is in the same unit."""
    parts = document["decision_tflops"]
    total = sum(parts.values())
    cheapest = min(row["cost"] for row in document["candidates"])
    share = f", {percent(total / cheapest)} of the cheapest candidate" if document["cost_unit"] == "tflops" and cheapest else ""
    return f"A decision costs {number(total, 2)} TFLOPs{share} (text encoder {number(parts['text_encoder'], 2)}, longest test prompt)."


def direction(document: dict[str, Any]) -> str:
    """How to read the qualities."""
    if document["lower_is_better"]:
        return f"{document['metric']}, negated: it is lower-is-better, and higher is better here"
    return f"{document['metric']}, higher is better"
