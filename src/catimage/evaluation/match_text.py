"""Text about the cost at which the router is as good as the best single candidate."""

from __future__ import annotations

from typing import Any

from catimage.common.formatting import format_gain, format_number, format_percent
from catimage.evaluation.intervals import verdict


def match_line(document: dict[str, Any]) -> str:
    """Return text about ``selected.match`` of the router's estimator.

    The text holds for new prompts with the confidence that it gives. It does not use the key
    ``cost_ratio_to_match_best_single``, the lowest cost on the test prompts themselves, which no
    lambda that is selected on other prompts reaches.
    """
    method = document["methods"][document["budget"]["estimator"]]
    match, best = method["selected"]["match"], document["best_single"]["candidate"]
    confidence = f"with a confidence of {format_percent(document['match_confidence'])}"
    if match is None:
        return (
            "No lambda of the router is certified on the validation split to match the best single"
            f" candidate, {best}, {confidence}."
        )
    cost = (
        f"a mean cost of {format_number(match['cost'])} {document['cost_unit']}"
        if match["cost_ratio"] is None
        else f"{format_percent(match['cost_ratio'])} of its cost"
    )
    gain, lam = format_gain(match["gain"], match["interval"]), format_number(match["lambda"])
    certified = f"certified on the validation split {confidence}"
    if verdict(match["interval"]) == "worse":
        return (
            f"Lambda {lam} was {certified} to match the best single candidate, {best}, at {cost},"
            f" but is worse on the test split: {gain}."
        )
    costs_more = match["cost_ratio"] is not None and match["cost_ratio"] >= 1
    claim = "The router is certified to match" if costs_more else "The router matches"
    only = "only " if costs_more else ""
    result = f"gains {gain}" if verdict(match["interval"]) == "better" else f"differs by {gain}"
    return (
        f"{claim} the best single candidate, {best}, {only}at {cost}: lambda {lam} is {certified},"
        f" and {result} on the test split."
    )
