"""The calibrated router on the test split: is the budget kept, and does it pay (CATImage, equation
1)?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.evaluation.curve_queries import position_at_cost
from catimage.evaluation.held_out import judged
from catimage.evaluation.intervals import PairedBootstrap, gains_over
from catimage.evaluation.policies import Outcome, mix
from catimage.routing.randomized import Rule


@dataclass(frozen=True)
class Floor:
    """A floor of another metric, and the ``labels`` of the test prompts (n_test, n_candidates),
    both in the metric's own direction.

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
        rule: what was calibrated.
        predicted: the expected qualities, (n_test, n_candidates).
        scores: what the rule reads, (1 + n_floors, n_test, n_candidates).
        draws: which say by which part of a rule each prompt goes, (n_test,).
        confidence, quality_floor, risk_aversion: as calibrated.
        floors: of other metrics, in the order of the rule's multipliers.
    """

    estimator: str
    target: float
    rule: Rule
    predicted: Floats
    scores: Floats
    draws: Floats
    confidence: float | None = None
    quality_floor: float | None = None
    risk_aversion: float = 0.0
    floors: tuple[Floor, ...] = ()

    @property
    def lam(self) -> float:
        """The lambda, the largest of several."""
        return float(self.rule.lam.max())

    def outcome(self, labels: Floats, cost: Floats) -> Outcome:
        """What each prompt costs and gives, an expectation over the draws where rules are mixed."""
        choices = self.rule.choices(self.scores, cost)
        return Outcome(
            self.rule.expected(choices, cost), self.rule.expected(choices, labels), self.lam
        )

    def served(self, cost: Floats, rule: Rule | None = None) -> Ints:
        """The candidate that each prompt really gets, (n_test,), by another rule if one is given."""
        rule = rule or self.rule
        return rule.drawn(rule.choices(self.scores, cost), self.draws)


def budget_document(
    router: Operating,
    known: Floats,
    test: Floats,
    best: int,
    candidates: list[str],
    cost: Floats,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """What the router spends and gives on test, against what else the same money buys.

    ``best_fixed`` is the candidate of best mean known label within the budget; ``mix`` sends random
    shares of the prompts to two candidates, picked by the known labels, at the cost that the router
    realised. ``gain`` and ``interval`` beside each are the router's over it, paired over prompts.
    ``rule`` has the parts of which the calibrated rule is mixed, and ``floors`` what the other
    metrics have of theirs.

    Args:
        known: labels (n, n_candidates) of the train and validation splits; ``test`` (n_test,
            n_candidates).
        cost: (n_candidates,).
        best: index of the best single candidate.
    """
    outcome = router.outcome(test, cost)
    spent = float(outcome.cost.mean())
    single = judged({"": outcome}, test[:, best], float(cost[best]), bootstrap)[""]
    return {
        "estimator": router.estimator,
        "target": float(router.target),
        "lambda": router.lam,
        "realised_mean_cost": spent,
        "realised_mean_cost_interval": bootstrap.interval(outcome.cost),
        "realised_quality": float(outcome.quality.mean()),
        "rule": router.rule.rows([floor.metric for floor in router.floors]),
        "confidence": router.confidence,
        "quality_floor": router.quality_floor,
        "risk_aversion": router.risk_aversion,
        "floors": [_kept(router, floor, cost) for floor in router.floors],
        "best_single": {
            "candidate": candidates[best],
            **{key: single[key] for key in ("gain", "interval", "cost_ratio")},
        },
        "best_fixed": _best_fixed(outcome, router.target, known, test, candidates, cost, bootstrap),
        "mix": _against_mix(outcome, spent, known, test, cost, bootstrap),
    }


def _kept(router: Operating, floor: Floor, cost: Floats) -> dict[str, Any]:
    """A floor and the mean on test, over the prompts whose labels are whole; None where there are
    none.
    """
    values = router.outcome(floor.labels, cost).quality
    values = values[~np.isnan(floor.labels).any(axis=1)]
    return {
        "metric": floor.metric,
        "floor": floor.floor,
        "realised": float(values.mean()) if len(values) else None,
    }


def _best_fixed(
    outcome: Outcome,
    target: float,
    known: Floats,
    test: Floats,
    candidates: list[str],
    cost: Floats,
    bootstrap: PairedBootstrap,
) -> dict[str, Any] | None:
    within = np.flatnonzero(cost <= target * (1 + 1e-9))
    if not len(within):
        return None
    m = int(within[np.argmax(known[:, within].mean(axis=0))])
    rival = Outcome(np.full(len(test), cost[m]), test[:, m])
    return {"candidate": candidates[m], **_against(outcome, rival, bootstrap)}


def _against_mix(
    outcome: Outcome,
    spent: float,
    known: Floats,
    test: Floats,
    cost: Floats,
    bootstrap: PairedBootstrap,
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
