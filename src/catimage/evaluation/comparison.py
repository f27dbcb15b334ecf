"""Estimators side by side, each judged on every prompt by a router that has not seen it (k-fold,
with all choices inside the folds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.missing_labels import best_single_candidate
from catimage.evaluation.curve_queries import (
    best_position,
    cost_at,
    position_at_cost,
    position_to_match,
)
from catimage.evaluation.held_out import mean_over_budgets
from catimage.evaluation.intervals import PairedBootstrap, gains_over, verdict
from catimage.evaluation.policies import Family, Outcome, fixed, mix, routed
from catimage.evaluation.tables import ratio
from catimage.evaluation.text import gain, number, percent
from catimage.routing.curve import deferral_curve

POLICIES = ("max_quality", "at_cost", "match")
"""Lambda chosen for the best quality, for the best within the best single candidate's cost, and for
its quality at least cost.
"""
BASELINES = ("fixed", "mix", "oracle")


@dataclass(frozen=True)
class Pooled:
    """A method on all judged prompts: each policy's ``quality`` and ``cost``, (n, 3) in the order
    of :data:`POLICIES`, and ``curve`` (n,), the quality on average over budgets from the cheapest
    to the dearest candidate.
    """

    quality: Floats
    cost: Floats
    curve: Floats


def judge_fold(
    known: Floats, judged: Floats, cost: Floats, predictions: Mapping[str, tuple[Floats, Floats]]
) -> dict[str, Pooled]:
    """Every method on one fold's judged prompts, all its choices made on the others; the methods
    that need no estimator come first.

    Args:
        known: labels (n_known, m) of the prompts that choices may see; ``judged`` (n_judged, m).
        cost: (m,).
        predictions: by estimator, out-of-fold ones of the known prompts (n_known, m), and those of
            the judged ones (n_judged, m).
    """
    families = {
        "fixed": fixed(known, judged, cost),
        "mix": mix(known, judged, cost),
        "oracle": routed(known, known, judged, judged, cost),
    }
    families |= {
        name: routed(held, known, predicted, judged, cost)
        for name, (held, predicted) in predictions.items()
    }
    best = best_single_candidate(known, cost)
    return {name: _pooled(family, best, known, judged, cost) for name, family in families.items()}


def found_ratio(predicted: Floats, judged: Floats, cost: Floats, best: int) -> float | None:
    """The cheapest point of the judged prompts' own curve that is as good as candidate ``best``
    there, over its cost; else None.

    What the best lambda would have given, as the papers' tables have it; predictions and labels (n,
    m), cost (m,).
    """
    curve = deferral_curve(predicted, cost, judged)
    place = position_to_match(curve, float(judged[:, best].mean()))
    return None if place is None else ratio(cost_at(curve, place), float(cost[best]))


def _pooled(family: Family, best: int, known: Floats, judged: Floats, cost: Floats) -> Pooled:
    curve, linear = family.curve, family.linear
    places = (
        best_position(curve),
        position_at_cost(curve, float(cost[best]), linear),
        position_to_match(curve, float(known[:, best].mean()), linear),
    )
    single = Outcome(
        np.full(len(judged), cost[best]), judged[:, best]
    )  # what is left where no lambda does it
    outcomes = [single if place is None else family.outcome(place) for place in places]
    over = mean_over_budgets(family, float(cost.min()), float(cost.max()))
    return Pooled(
        np.stack([o.quality for o in outcomes], axis=1),
        np.stack([o.cost for o in outcomes], axis=1),
        over,
    )


def joined(folds: list[dict[str, Pooled]]) -> dict[str, Pooled]:
    """The folds, one after the other."""
    return {
        name: Pooled(
            *(
                np.concatenate([getattr(fold[name], part) for fold in folds])
                for part in ("quality", "cost", "curve")
            )
        )
        for name in folds[0]
    }


def comparison_rows(
    methods: Mapping[str, Pooled], rival: Floats, rival_cost: Floats, bootstrap: PairedBootstrap
) -> list[dict[str, Any]]:
    """A row a method: gains over the best single candidate, cost ratios and mean curve quality,
    each with its 95% interval.

    Args:
        methods: see :func:`joined`; one of them is ``fixed``.
        rival, rival_cost: (n,), of the candidate that was the best single one among the prompts
            that a fold's choices may see.
    """
    fixed_curve = methods["fixed"].curve
    return [
        {"estimator": name, **_row(method, rival, rival_cost, fixed_curve, bootstrap)}
        for name, method in methods.items()
    ]


def _row(
    method: Pooled,
    rival: Floats,
    rival_cost: Floats,
    fixed_curve: Floats,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for i, policy in enumerate(POLICIES):
        gains, cost = gains_over(method.quality[:, i], rival), method.cost[:, i]
        row[policy] = {
            "gain": float(gains.mean()),
            "interval": bootstrap.interval(gains),
            "cost": float(cost.mean()),
            "cost_ratio": ratio(float(cost.mean()), float(rival_cost.mean())),
            "cost_ratio_interval": bootstrap.ratio_interval(cost, rival_cost),
        }
    over = method.curve - fixed_curve
    row["mean_curve_quality"] = float(method.curve.mean())
    row["mean_curve_quality_interval"] = bootstrap.interval(method.curve)
    row["mean_curve_gain"] = {"gain": float(over.mean()), "interval": bootstrap.interval(over)}
    row["verdict"] = verdict(row["max_quality"]["interval"])
    return row


def comparison_table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table that people read."""
    header = [
        "estimator",
        "gain [95% interval]",
        "of cost",
        "gain at its cost",
        "to match: of cost",
        "and gain",
        "curve over fixed",
        "fit s",
        "ms",
        "verdict",
    ]
    return header, [_cells(row) for row in rows]


def _cells(row: dict[str, Any]) -> list[str]:
    best, at_cost, match, curve = (row[key] for key in (*POLICIES, "mean_curve_gain"))
    interval = match["cost_ratio_interval"]
    share = percent(match["cost_ratio"]) + (
        "" if interval is None else f" [{percent(interval[0])}, {percent(interval[1])}]"
    )
    gains = [gain(part["gain"], part["interval"]) for part in (best, at_cost, match, curve)]
    told = [number(row.get(key), 3) for key in ("fit_seconds", "decision_ms")]
    return [
        row["estimator"],
        gains[0],
        percent(best["cost_ratio"]),
        gains[1],
        share,
        gains[2],
        gains[3],
        *told,
        row["verdict"],
    ]


def sentences(rows: list[dict[str, Any]], chosen: str) -> list[str]:
    """What the row of the estimator that would be ``chosen`` comes to."""
    row = next(r for r in rows if r["estimator"] == chosen)
    best, match = row["max_quality"], row["match"]
    said = gain(best["gain"], best["interval"])
    first = {
        "better": (
            f"{chosen} gains {said} over the best single candidate, at"
            f" {percent(best['cost_ratio'])} of its cost."
        ),
        "worse": f"{chosen} loses to the best single candidate: {said}.",
        "nothing significant": (
            f"{chosen} gains nothing significant over the best single candidate: {said}."
        ),
    }[row["verdict"]]
    how = {
        "worse": (
            "Aimed at the best single candidate's quality, it falls short by"
            f" {gain(match['gain'], match['interval'])}"
        ),
        "better": (
            "Aimed at the best single candidate's quality, it surpasses it:"
            f" {gain(match['gain'], match['interval'])}"
        ),
        "nothing significant": (
            "It matches the best single candidate's quality (difference"
            f" {gain(match['gain'], match['interval'])})"
        ),
    }[verdict(match["interval"])]
    return [first, f"{how}, at {percent(match['cost_ratio'])} of its cost."]
