"""The calibrated router on the test split: is the budget kept, and does it pay (CATImage, equation 1)?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from catimage.evaluation.families import Outcome, mix, outcome_of
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.lookup import position_at_cost
from catimage.evaluation.selected import judged
from catimage.routing.rule import Floats


@dataclass(frozen=True)
class Operating:
    """A calibrated router: its estimator's name, its budget in the cost unit, its lambda, its predictions (n_test, n_candidates)."""

    estimator: str
    target: float
    lam: float
    predicted: Floats


def budget_document(
    router: Operating, known: Floats, test: Floats, best: int, candidates: list[str], cost: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """What the router spends and gives on test, against what else the same money buys.

    ``best_fixed`` is the candidate of best mean known label within the budget; ``mix`` sends random shares of the prompts
    to two candidates, picked by the known labels, at the cost that the router realised. ``gain`` and ``interval`` beside
    each are the router's over it, paired over prompts.

    Args:
        known: labels (n, n_candidates) of the train and validation splits; ``test`` (n_test, n_candidates).
        cost: (n_candidates,).
        best: index of the best single candidate.
    """
    outcome = outcome_of(router.predicted, test, cost, router.lam)
    spent = float(outcome.cost.mean())
    single = judged({"": outcome}, test[:, best], float(cost[best]), bootstrap)[""]
    return {
        "estimator": router.estimator,
        "target": float(router.target),
        "lambda": float(router.lam),
        "realised_mean_cost": spent,
        "realised_mean_cost_interval": bootstrap.interval(outcome.cost),
        "realised_quality": float(outcome.quality.mean()),
        "best_single": {"candidate": candidates[best], **{key: single[key] for key in ("gain", "interval", "cost_ratio")}},
        "best_fixed": _best_fixed(outcome, router.target, known, test, candidates, cost, bootstrap),
        "mix": _against_mix(outcome, spent, known, test, cost, bootstrap),
    }


def _best_fixed(
    outcome: Outcome, target: float, known: Floats, test: Floats, candidates: list[str], cost: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any] | None:
    within = np.flatnonzero(cost <= target * (1 + 1e-9))
    if not len(within):
        return None
    m = int(within[np.argmax(known[:, within].mean(axis=0))])
    rival = Outcome(np.full(len(test), cost[m]), test[:, m])
    return {"candidate": candidates[m], **_against(outcome, rival, bootstrap)}


def _against_mix(
    outcome: Outcome, spent: float, known: Floats, test: Floats, cost: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any] | None:
    family = mix(known, test, cost)
    position = position_at_cost(family.curve, spent, linear=True)
    return None if position is None else _against(outcome, family.outcome(position), bootstrap)


def _against(outcome: Outcome, rival: Outcome, bootstrap: PairedBootstrap) -> dict[str, Any]:
    gain = outcome.quality - rival.quality
    return {
        "cost": float(rival.cost.mean()),
        "quality": float(rival.quality.mean()),
        "gain": float(gain.mean()),
        "interval": bootstrap.interval(gain),
    }
