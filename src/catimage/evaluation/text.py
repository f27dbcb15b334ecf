"""Sentences about ``metrics.json`` for the report and the command line.

A gain is not significant if its interval contains 0; the verdict is then "nothing significant".
"""

from __future__ import annotations

from typing import Any

from catimage.common.formatting import format_gain, format_number, format_percent, format_share
from catimage.evaluation.intervals import verdict
from catimage.evaluation.tables import cost_ratio

PAPER_TFLOPS = 0.001
"""Upper bound of the cost of one decision (CATImage paper, section 5.1)."""
MIN_PROMPTS = 30
"""Minimum number of test prompts for bootstrap intervals that are not clearly too narrow."""


def compared_with(statistics: dict[str, Any], reference: str) -> str:
    """Return a phrase about the gain of a policy, which follows the name of the policy.

    Args:
        statistics: a dictionary with the gain, ``gain``, and its 95% interval, ``interval``.
        reference: the description of the policy that the gain is over.
    """
    gain = format_gain(statistics["gain"], statistics["interval"])
    return {
        "better": f"gains {gain} over {reference}",
        "worse": f"loses to {reference}: {gain}",
        "nothing significant": f"has no significant gain over {reference}: {gain}",
    }[verdict(statistics["interval"])]


def headline(document: dict[str, Any]) -> str:
    """Return the sentence that compares the router with the best fixed candidate in the budget.

    If every candidate costs more than the budget, the best single candidate is used instead.
    """
    budget = document["budget"]
    if budget["best_fixed"] is None:
        return against_best_single(document)
    share = cost_ratio(budget["realised_mean_cost"], budget["best_fixed"]["cost"])
    return _router_against(
        "the best fixed candidate within the budget", budget["best_fixed"], share
    )


def against_best_single(document: dict[str, Any]) -> str:
    """Return a sentence that compares the router with the best single candidate at any cost."""
    statistics = document["budget"]["best_single"]
    return _router_against("the best single candidate", statistics, statistics["cost_ratio"])


def _router_against(reference: str, statistics: dict[str, Any], share: float | None) -> str:
    of_cost = "" if share is None else f", at {format_percent(share)} of that candidate's cost"
    named = f"{reference}, {statistics['candidate']}"
    return f"The router {compared_with(statistics, named)}{of_cost}."


def further_comparisons(document: dict[str, Any]) -> list[str]:
    """Return sentences that compare the router with other policies than the headline does.

    They are the best mix of two candidates, and the best single candidate if that differs from the
    best fixed candidate within the budget.
    """
    budget = document["budget"]
    lines = []
    if budget["mix"]:
        mix = "the best random mix of two candidates at the same mean cost"
        lines.append(f"The router {compared_with(budget['mix'], mix)}.")
    fixed = budget["best_fixed"]
    if fixed and fixed["candidate"] != budget["best_single"]["candidate"]:
        lines.append(against_best_single(document))
    return lines


def budget_line(document: dict[str, Any]) -> str:
    """Return a sentence about the router's lambda and mean cost, and the budget or the floors."""
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
    """Format the lambda of each part of a rule, with its share if there are several parts."""
    if len(rule) == 1:
        return format_number(rule[0]["lambda"])
    parts = (f"{format_number(p['lambda'])} for {format_percent(p['share'])}" for p in rule)
    return " and ".join(parts)


def _target(document: dict[str, Any]) -> str:
    """Return a phrase about the budget, or about the required quality."""
    budget = document["budget"]
    target = f"{format_number(budget['target'])} {document['cost_unit']}"
    floor = budget["quality_floor"]
    if floor is None:
        return f"of a budget of {target}"
    own_direction = -floor if document["lower_is_better"] else floor
    return (
        f"compared with {target} on validation, with a mean quality of"
        f" {format_number(budget['realised_quality'])}; the required quality is"
        f" {format_number(own_direction)}"
    )


def _floors(floors: list[dict[str, Any]]) -> str:
    return "".join(
        f" The mean {floor['metric']} on test is {format_number(floor['realised'])}; the floor is"
        f" {format_number(floor['floor'])}."
        for floor in floors
    )


def decision_line(document: dict[str, Any]) -> str:
    """Return a sentence about the cost of one decision of the router.

    If costs are in TFLOPs, it includes the share of the cheapest candidate's cost.
    """
    parts = document["decision_tflops"]
    total = sum(parts.values())
    cheapest = min(row["cost"] for row in document["candidates"])
    share = (
        f", {format_percent(total / cheapest)} of the cheapest candidate's cost"
        if document["cost_unit"] == "tflops" and cheapest
        else ""
    )
    encoder = f"of which the text encoder {format_number(parts['text_encoder'], 2)}"
    return (
        f"A decision for the longest test prompt costs {format_number(total, 2)} TFLOPs{share}"
        f" ({encoder}){_milliseconds(document)}."
    )


def router_cost_line(document: dict[str, Any]) -> str:
    """Return the line below the tables of the report, the cost of one decision of the router."""
    total = sum(document["decision_tflops"].values())
    cost = f"{format_number(total, 2)} TFLOPs{_milliseconds(document)}"
    paper_cost = f"in the CATImage paper, less than {PAPER_TFLOPS} TFLOPs"
    return f"The router itself: {cost} per decision; {paper_cost}."


def _milliseconds(document: dict[str, Any]) -> str:
    """Return a phrase about the time of one decision; empty if it was not measured."""
    ms = document.get("decision_ms")
    if not ms:
        return ""
    return (
        f" and {format_number(ms['with_text'], 2)} ms ({format_number(ms['without_text'], 2)} ms"
        " after the text encoder)"
    )


def baselines_line(methods: dict[str, Any], estimator: str) -> str:
    """Return sentences that explain the two columns for baselines in Table 3 of the report.

    Args:
        methods: the key ``methods`` of one metric in ``metrics.json``.
        estimator: the name of the router's estimator.
    """
    routed, fixed, mix = (methods[name]["by_candidate"] for name in (estimator, "fixed", "mix"))
    reason = (
        "The best fixed candidate and the best random mix of two candidates do not use the prompt."
        " Where a cheap candidate is as good as more expensive ones, both of them also match the"
        " expensive ones at a low cost. A low cost of the router is then due to the pool."
    )
    matched = sum(_share_to_match(row) < 1 - 1e-9 for row in fixed)
    if not matched:
        return reason
    cheaper = sum(
        _share_to_match(row) < min(_share_to_match(fixed[m]), _share_to_match(mix[m])) - 1e-9
        for m, row in enumerate(routed)
    )
    return (
        f"{reason} A cheaper fixed candidate matches {matched} of the {len(fixed)} candidates; the"
        f" router is cheaper than both baselines for {cheaper}."
    )


def _share_to_match(row: dict[str, Any]) -> float:
    """Return ``cost_ratio_to_match``, or infinity if the candidate is not matched."""
    share = row["cost_ratio_to_match"]
    return float("inf") if share is None else float(share)


def few_prompts_line(document: dict[str, Any]) -> str:
    """Return a warning about fewer than 30 test prompts; empty if there are enough."""
    n = document["n_test"]
    if n >= MIN_PROMPTS:
        return ""
    return (
        f"The test split has only {n} prompt{'s' * (n > 1)}, so bootstrap intervals are too narrow."
        f" Use at least {MIN_PROMPTS} test prompts."
    )


def left_out_line(document: dict[str, Any]) -> str:
    """Return a line with the number of prompts that were left out; empty if there are none.

    Args:
        document: the statistics of one metric, or ``metrics.json`` for the routed metric.
    """
    counts = {split: count for split, count in document.get("left_out", {}).items() if count}
    if not counts:
        return ""
    parts = (f"{n:,} {split} prompt{'s' * (n > 1)}" for split, n in counts.items())
    return f"Left out because the label of a candidate is missing: {' and '.join(parts)}."


def noise_line(document: dict[str, Any]) -> str:
    """Return a sentence about the noise in the oracle's gain, and the gain that can be learned.

    The sentence includes the share of the learnable gain that the router captures. It is empty if
    the noise is unknown.
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
        learnable = f"no significant gain ({learnable})"
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
    """Return a phrase with the name of the metric and the direction of its improvement."""
    if document["lower_is_better"]:
        return f"{document['metric']}, negated (lower is better), so that higher is better"
    return f"{document['metric']}, higher is better"
