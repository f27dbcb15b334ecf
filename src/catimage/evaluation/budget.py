"""The calibrated router on the test split: is the budget kept, and does it pay (CATImage, equation 1)?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from catimage.evaluation.families import Outcome, expected_of, mix, outcome_of
from catimage.evaluation.intervals import PairedBootstrap, gains_over
from catimage.evaluation.lookup import position_at_cost
from catimage.evaluation.selected import judged
from catimage.routing.rule import Floats, Ints


@dataclass(frozen=True)
class Floor:
    """A floor of another metric, and the ``labels`` of the test prompts (n_test, n_candidates), both in the metric's own direction.

    A label that is missing is NaN.
    """

    metric: str
    floor: float
    labels: Floats


@dataclass(frozen=True)
class Operating:
    """A calibrated router on the test prompts.

    Attributes:
        estimator: its name; ``target`` is its budget in the cost unit.
        lam: its lambda, the largest of several; ``predicted`` (n_test, n_candidates) the expected qualities.
        rule: the parts that are mixed, ready for JSON, each with its ``share``; ``choices`` (J, n_test) are the candidates by each part.
            Left out, the one lambda routes by ``predicted``.
        confidence, quality_floor, risk_aversion: as calibrated.
        floors: of other metrics.
    """

    estimator: str
    target: float
    lam: float
    predicted: Floats
    rule: tuple[dict[str, Any], ...] = ()
    choices: Ints | None = None
    confidence: float | None = None
    quality_floor: float | None = None
    risk_aversion: float = 0.0
    floors: tuple[Floor, ...] = ()

    def outcome(self, labels: Floats, cost: Floats) -> Outcome:
        """What each prompt costs and gives, an expectation over the draws where rules are mixed."""
        if self.choices is None:
            return outcome_of(self.predicted, labels, cost, self.lam)
        return expected_of(self.choices, np.array([part["share"] for part in self.rule]), labels, cost, self.lam)


def budget_document(
    router: Operating, known: Floats, test: Floats, best: int, candidates: list[str], cost: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """What the router spends and gives on test, against what else the same money buys.

    ``best_fixed`` is the candidate of best mean known label within the budget; ``mix`` sends random shares of the prompts
    to two candidates, picked by the known labels, at the cost that the router realised. ``gain`` and ``interval`` beside
    each are the router's over it, paired over prompts. ``rule`` has the parts of which the calibrated rule is mixed, and ``floors`` what
    the other metrics have of theirs.

    Args:
        known: labels (n, n_candidates) of the train and validation splits; ``test`` (n_test, n_candidates).
        cost: (n_candidates,).
        best: index of the best single candidate.
    """
    outcome = router.outcome(test, cost)
    spent = float(outcome.cost.mean())
    single = judged({"": outcome}, test[:, best], float(cost[best]), bootstrap)[""]
    return {
        "estimator": router.estimator,
        "target": float(router.target),
        "lambda": float(router.lam),
        "realised_mean_cost": spent,
        "realised_mean_cost_interval": bootstrap.interval(outcome.cost),
        "realised_quality": float(outcome.quality.mean()),
        "rule": list(router.rule) or [{"share": 1.0, "lambda": float(router.lam), "multipliers": {}}],
        "confidence": router.confidence,
        "quality_floor": router.quality_floor,
        "risk_aversion": router.risk_aversion,
        "floors": [_kept(router, floor, cost) for floor in router.floors],
        "best_single": {"candidate": candidates[best], **{key: single[key] for key in ("gain", "interval", "cost_ratio")}},
        "best_fixed": _best_fixed(outcome, router.target, known, test, candidates, cost, bootstrap),
        "mix": _against_mix(outcome, spent, known, test, cost, bootstrap),
    }


def _kept(router: Operating, floor: Floor, cost: Floats) -> dict[str, Any]:
    """A floor and the mean on test, over the prompts whose labels are whole; None where there are none."""
    values = router.outcome(floor.labels, cost).quality
    values = values[~np.isnan(floor.labels).any(axis=1)]
    return {"metric": floor.metric, "floor": floor.floor, "realised": float(values.mean()) if len(values) else None}


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
    gain = gains_over(outcome.quality, rival.quality)
    return {
        "cost": float(rival.cost.mean()),
        "quality": float(rival.quality.mean()),
        "gain": float(gain.mean()),
        "interval": bootstrap.interval(gain),
    }
