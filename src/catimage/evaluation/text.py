"""Sentences about ``metrics.json`` for the report and the command line.

A gain whose interval contains 0 is called "nothing significant", whatever its sign.
"""

from __future__ import annotations

from typing import Any

from catimage.common.formatting import format_gain, format_number, format_percent, format_share
from catimage.evaluation.intervals import verdict
from catimage.evaluation.tables import cost_ratio

PAPER_TFLOPS = 0.001
"""Upper bound of a decision's cost in CATImage 5.1."""
MIN_PROMPTS = 30
"""Test prompts below which the bootstrap's intervals are clearly too narrow."""


def compared_with(figures: dict[str, Any], reference: str) -> str:
    """Describe a ``gain`` and its ``interval`` in words that follow the name of a policy."""
    gain = format_gain(figures["gain"], figures["interval"])
    return {
        "better": f"gains {gain} over {reference}",
        "worse": f"loses to {reference}: {gain}",
        "nothing significant": f"gains nothing significant over {reference}: {gain}",
    }[verdict(figures["interval"])]


def headline(document: dict[str, Any]) -> str:
    """Compare the calibrated router with the best fixed candidate within its budget."""
    budget = document["budget"]
    if budget["best_fixed"] is None:
        return against_best_single(document)
    share = cost_ratio(budget["realised_mean_cost"], budget["best_fixed"]["cost"])
    return _router_against(
        "the best fixed candidate within its budget", budget["best_fixed"], share
    )


def against_best_single(document: dict[str, Any]) -> str:
    """Compare the calibrated router with the best single candidate at any cost."""
    figures = document["budget"]["best_single"]
    return _router_against("the best single candidate", figures, figures["cost_ratio"])


def _router_against(reference: str, figures: dict[str, Any], share: float | None) -> str:
    of_cost = "" if share is None else f", at {format_percent(share)} of its cost"
    named = f"{reference}, {figures['candidate']}"
    return f"The router {compared_with(figures, named)}{of_cost}."


def further_comparisons(document: dict[str, Any]) -> list[str]:
    """Compare the router with the best mix, and with the best single candidate if the headline does
    not.
    """
    budget = document["budget"]
    lines = []
    if budget["mix"]:
        mix = "the best random mix of two candidates at the cost that it realised"
        lines.append(f"The router {compared_with(budget['mix'], mix)}.")
    fixed = budget["best_fixed"]
    if fixed and fixed["candidate"] != budget["best_single"]["candidate"]:
        lines.append(against_best_single(document))
    return lines


def budget_line(document: dict[str, Any]) -> str:
    """Describe the calibrated rule, its realised cost, and the budget or the floors."""
    budget, unit = document["budget"], document["cost_unit"]
    low, high = map(format_number, budget["realised_mean_cost_interval"])
    realised = (
        f"realised mean cost {format_number(budget['realised_mean_cost'])} [{low}, {high}] {unit}"
        f" on {document['n_test']:,} test prompts"
    )
    return (
        f"lambda {_lambdas(budget['rule'])} ({budget['estimator']}): {realised},"
        f" {_target(document)}.{_floors(budget['floors'])}"
    )


def _lambdas(rule: list[dict[str, Any]]) -> str:
    if len(rule) == 1:
        return format_number(rule[0]["lambda"])
    parts = (f"{format_number(p['lambda'])} for {format_percent(p['share'])}" for p in rule)
    return " and ".join(parts)


def _target(document: dict[str, Any]) -> str:
    budget = document["budget"]
    target = f"{format_number(budget['target'])} {document['cost_unit']}"
    floor = budget["quality_floor"]
    if floor is None:
        return f"of a budget of {target}"
    own_direction = -floor if document["lower_is_better"] else floor
    return (
        f"after {target} on validation, with a quality of"
        f" {format_number(budget['realised_quality'])} for a floor of"
        f" {format_number(own_direction)}"
    )


def _floors(floors: list[dict[str, Any]]) -> str:
    return "".join(
        f" Mean {floor['metric']} on test: {format_number(floor['realised'])}, calibrated to"
        f" {format_number(floor['floor'])}."
        for floor in floors
    )


def decision_line(document: dict[str, Any]) -> str:
    """Describe the cost of one decision, relative to the cheapest candidate if the unit allows."""
    parts = document["decision_tflops"]
    total = sum(parts.values())
    cheapest = min(row["cost"] for row in document["candidates"])
    share = (
        f", {format_percent(total / cheapest)} of the cheapest candidate"
        if document["cost_unit"] == "tflops" and cheapest
        else ""
    )
    encoder = f"text encoder {format_number(parts['text_encoder'], 2)}, longest test prompt"
    return f"A decision costs {format_number(total, 2)} TFLOPs{share} ({encoder}){_ms(document)}."


def router_cost(document: dict[str, Any]) -> str:
    """Describe the cost of one decision in the line below every table of the report."""
    total = sum(document["decision_tflops"].values())
    return (
        f"The router itself: {format_number(total, 2)} TFLOPs{_ms(document)} per decision; the"
        f" paper's takes less than {PAPER_TFLOPS} TFLOPs."
    )


def _ms(document: dict[str, Any]) -> str:
    ms = document.get("decision_ms")
    if not ms:
        return ""
    return (
        f" and {format_number(ms['with_text'], 2)} ms ({format_number(ms['without_text'], 2)} ms"
        " after the text encoder)"
    )


def baselines_line(methods: dict[str, Any], estimator: str) -> str:
    """Explain why Table 3 also lists the best fixed candidate and the best mix of two.

    Args:
        methods: of one metric.
        estimator: the router's.
    """
    routed, fixed, mix = (methods[name]["by_candidate"] for name in (estimator, "fixed", "mix"))
    reason = (
        "The best fixed candidate and the best random mix of two do not route. Where a cheap"
        " candidate is as good as more expensive ones, they match those at a low cost too, and a"
        " small share of the router is due to the pool."
    )
    matched = sum(_share_to_match(row) < 1 - 1e-9 for row in fixed)
    if not matched:
        return reason
    cheaper = sum(
        _share_to_match(row) < min(_share_to_match(fixed[m]), _share_to_match(mix[m])) - 1e-9
        for m, row in enumerate(routed)
    )
    return (
        f"{reason} Here this is so for {matched} of {len(fixed)} candidates; the router is cheaper"
        f" than both for {cheaper}."
    )


def _share_to_match(row: dict[str, Any]) -> float:
    share = row["cost_ratio_to_match"]
    return float("inf") if share is None else float(share)


def few_prompts_line(document: dict[str, Any]) -> str:
    """Warn about intervals from fewer than 30 test prompts; empty if there are enough."""
    n = document["n_test"]
    if n >= MIN_PROMPTS:
        return ""
    return (
        f"The test split has only {n} prompt{'s' * (n > 1)}, so bootstrap intervals are too narrow:"
        f" use at least {MIN_PROMPTS}."
    )


def left_out_line(document: dict[str, Any]) -> str:
    """Count the prompts left out of one metric's part of the document; empty if there are none."""
    counts = {split: count for split, count in document.get("left_out", {}).items() if count}
    if not counts:
        return ""
    parts = (f"{n:,} {split} prompt{'s' * (n > 1)}" for split, n in counts.items())
    return f"Left out because the label of a candidate is missing: {' and '.join(parts)}."


def noise_line(document: dict[str, Any]) -> str:
    """Describe the noise in the oracle's gain and the share of the rest that the router captures.

    Empty if the noise is unknown.
    """
    noise = document.get("noise")
    if not noise:
        return ""
    if noise["noise_share"] is None:
        total = format_gain(noise["oracle_gain"], noise["oracle_gain_interval"])
        return f"The oracle's gain over the best single candidate, {total}, is not clearly above 0."
    share = format_share(noise["noise_share"], noise["noise_share_interval"])
    learnable = format_gain(noise["learnable_gain"], noise["learnable_gain_interval"])
    if verdict(noise["learnable_gain_interval"]) != "better":
        learnable = f"nothing significant ({learnable})"
    line = (
        f"Of the oracle's gain over the best single candidate, {share} is noise of the seeds, and"
        f" {learnable} can be learned"
    )
    captured = noise["captured"].get(document["budget"]["estimator"])
    if captured is None or captured["share"] is None:
        return f"{line}."
    share_captured = format_share(captured["share"], captured["share_interval"])
    return f"{line}; the router's held-out policy captures {share_captured} of the learnable gain."


def direction(document: dict[str, Any]) -> str:
    """State how to read the qualities."""
    if document["lower_is_better"]:
        return f"{document['metric']}, negated (lower is better), so that higher is better"
    return f"{document['metric']}, higher is better"
