"""``metrics.json`` in sentences. A gain whose interval contains 0 is called nothing significant,
whatever its sign.
"""

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
    """The calibrated router against the best mix of two candidates, and against the best single one
    where it is not the headline's.
    """
    fixed, mix = document["budget"]["best_fixed"], document["budget"]["mix"]
    said = (
        [
            "The router"
            f" {compared(mix, 'the best random mix of two candidates at the cost that it realised')}."
        ]
        if mix
        else []
    )
    if fixed and fixed["candidate"] != document["budget"]["best_single"]["candidate"]:
        said.append(against_best_single(document))
    return said


def budget_line(document: dict[str, Any]) -> str:
    """The calibrated lambda, or lambdas with the shares of the prompts that go by them, and what
    they spend against the budget or floor.
    """
    budget, unit = document["budget"], document["cost_unit"]
    low, high = map(number, budget["realised_mean_cost_interval"])
    spent = (
        f"realised mean cost {number(budget['realised_mean_cost'])} [{low}, {high}] {unit} on"
        f" {document['n_test']:,} test prompts"
    )
    return (
        f"lambda {_lambdas(budget['rule'])} ({budget['estimator']}): {spent},"
        f" {_target(document)}.{_floors(budget['floors'])}"
    )


def _lambdas(rule: list[dict[str, Any]]) -> str:
    shares = [f" for {percent(part['share'])}" if len(rule) > 1 else "" for part in rule]
    return " and ".join(
        number(part["lambda"]) + share for part, share in zip(rule, shares, strict=True)
    )


def _target(document: dict[str, Any]) -> str:
    budget, unit = document["budget"], document["cost_unit"]
    target, floor = f"{number(budget['target'])} {unit}", budget["quality_floor"]
    if floor is None:
        return f"of a budget of {target}"
    aimed = -floor if document["lower_is_better"] else floor
    return (
        f"after {target} on validation, with a quality of {number(budget['realised_quality'])} for"
        f" a floor of {number(aimed)}"
    )


def _floors(floors: list[dict[str, Any]]) -> str:
    return "".join(
        f" Mean {f['metric']} on test: {number(f['realised'])}, calibrated to {number(f['floor'])}."
        for f in floors
    )


PAPERS_TFLOPS = 0.001
"""What a decision costs at most by CATImage 5.1."""


def decision_line(document: dict[str, Any]) -> str:
    """What the router itself costs, beside the cheapest candidate where that is in the same unit."""
    parts = document["decision_tflops"]
    total = sum(parts.values())
    cheapest = min(row["cost"] for row in document["candidates"])
    share = (
        f", {percent(total / cheapest)} of the cheapest candidate"
        if document["cost_unit"] == "tflops" and cheapest
        else ""
    )
    encoder = f"text encoder {number(parts['text_encoder'], 2)}, longest test prompt"
    return f"A decision costs {number(total, 2)} TFLOPs{share} ({encoder}){_ms(document)}."


def own_cost(document: dict[str, Any]) -> str:
    """What the router itself costs, to stand under every table."""
    total = sum(document["decision_tflops"].values())
    return (
        f"The router itself: {number(total, 2)} TFLOPs{_ms(document)} a decision; CATImage's takes"
        f" less than {PAPERS_TFLOPS} TFLOPs."
    )


def _ms(document: dict[str, Any]) -> str:
    ms = document.get("decision_ms")
    return (
        f" and {number(ms['with_text'], 2)} ms ({number(ms['without_text'], 2)} ms after the text"
        " encoder)"
        if ms
        else ""
    )


def why_beside(methods: dict[str, Any], estimator: str) -> str:
    """Why Table 3 has the best fixed candidate and the best mix beside the router; ``methods`` of
    one metric.
    """
    ours, fixed, mix = (methods[name]["by_candidate"] for name in (estimator, "fixed", "mix"))
    dearer = [m for m in range(len(fixed)) if _share(fixed[m]) < 1 - 1e-9]
    why = (
        "Beside the router stand the best fixed candidate and the best random mix of two, which"
        " route nothing: where a cheap candidate is as good as dearer ones, everybody matches those"
        " cheaply, and a small share says more of the pool than of the router."
    )
    if not dearer:
        return why
    undercut = sum(
        _share(row) < min(_share(fixed[m]), _share(mix[m])) - 1e-9 for m, row in enumerate(ours)
    )
    return (
        f"{why} Here that holds for {len(dearer)} of {len(fixed)} candidates; the router undercuts"
        f" both for {undercut}."
    )


def _share(row: dict[str, Any]) -> float:
    share = row["cost_ratio_to_match"]
    return float("inf") if share is None else float(share)


FEW = 30
"""Test prompts below which the bootstrap's intervals cover clearly less than they say."""


def few(document: dict[str, Any]) -> str:
    """A warning where there are few test prompts; else empty. The interval of a single one has no
    width at all.
    """
    n = document["n_test"]
    return (
        ""
        if n >= FEW
        else (
            f"Of {n} test prompt{'s' * (n > 1)}, intervals by a bootstrap are too narrow: {FEW} are"
            " needed at least."
        )
    )


def left_out(document: dict[str, Any]) -> str:
    """How many prompts were left out of one metric's judgement; empty where none was. ``document``
    is a metric's part.
    """
    counts = {split: count for split, count in document.get("left_out", {}).items() if count}
    if not counts:
        return ""
    said = " and ".join(
        f"{count:,} {split} prompt{'s' * (count > 1)}" for split, count in counts.items()
    )
    return f"Left out, since a candidate has no label there: {said}."


def noise_line(document: dict[str, Any]) -> str:
    """How much of the oracle's gain is luck, and what the router captures of the rest; empty where
    it is not known.
    """
    noise = document.get("noise")
    if not noise:
        return ""
    if noise["noise_share"] is None:
        total = gain(noise["oracle_gain"], noise["oracle_gain_interval"])
        return f"The oracle's gain over the best single candidate, {total}, is not clearly above 0."
    luck, learnable = (
        _range(noise, "noise_share"),
        gain(noise["learnable_gain"], noise["learnable_gain_interval"]),
    )
    what = (
        learnable
        if verdict(noise["learnable_gain_interval"]) == "better"
        else f"nothing significant ({learnable})"
    )
    said = (
        f"Of the oracle's gain over the best single candidate, {luck} is luck of the seeds, and"
        f" {what} can be learned"
    )
    captured = noise["captured"].get(document["budget"]["estimator"])
    if captured is None or captured["share"] is None:
        return f"{said}."
    return f"{said}; the router's honest choice captures {_range(captured, 'share')} of that."


def _range(figures: dict[str, Any], name: str) -> str:
    low, high = figures[f"{name}_interval"]
    return f"{percent(figures[name])} [{percent(low)}, {percent(high)}]"


def direction(document: dict[str, Any]) -> str:
    """How to read the qualities."""
    if document["lower_is_better"]:
        return f"{document['metric']}, negated: it is lower-is-better, and higher is better here"
    return f"{document['metric']}, higher is better"
