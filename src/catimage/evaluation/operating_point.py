"""The operating point: a calibrated router applied to the test prompts.

A calibrated rule has one part, or several parts of which a random draw per prompt selects one (a
*randomized rule*). Each part has a lambda, and a multiplier for each *floor*, the mean of another
metric that the router must reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.data.dataset import Dataset
from catimage.data.score_rows import ScoreRows
from catimage.evaluation.policies import Outcome
from catimage.router import Router
from catimage.routing.draws import request_draws
from catimage.routing.randomized import RoutingRule


@dataclass(frozen=True)
class FloorLabels:
    """The floor of another metric, and the labels of the test prompts for that metric.

    Attributes:
        metric: the name of the metric.
        floor: the mean that the router must reach, in the metric's own direction (not negated).
        labels: the labels in the metric's own direction, (n_test, n_candidates), NaN where missing.
    """

    metric: str
    floor: float
    labels: Floats


@dataclass(frozen=True)
class OperatingPoint:
    """A calibrated router and its predictions for the test prompts.

    Attributes:
        estimator: the name of the router's estimator.
        target: the budget that the router was calibrated for, in the cost unit.
        rule: the calibrated rule.
        predicted: predicted qualities, (n_test, n_candidates).
        scores: the input of the rule, (1 + n_floors, n_test, n_candidates): the predicted
            qualities minus ``risk_aversion`` predictive standard deviations, then the predictions
            for the metric of each floor.
        draws: a number in [0, 1) per prompt, which selects the part of a randomized rule,
            (n_test,).
        confidence: the confidence with which the budget is kept, or None.
        quality_floor: the mean quality that the rule was calibrated to reach, or None.
        risk_aversion: the number of predictive standard deviations that are subtracted from every
            predicted quality.
        floors: the floors of other metrics, in the order of the rule's multipliers.
    """

    estimator: str
    target: float
    rule: RoutingRule
    predicted: Floats
    scores: Floats
    draws: Floats
    confidence: float | None = None
    quality_floor: float | None = None
    risk_aversion: float = 0.0
    floors: tuple[FloorLabels, ...] = ()

    @property
    def lam(self) -> float:
        """The largest lambda of the rule."""
        return float(self.rule.lam.max())

    def outcome(self, labels: Floats, costs: Floats) -> Outcome:
        """Return cost and quality per prompt, in expectation over the draws of a randomized rule.

        Args:
            labels: the labels of the test prompts, (n_test, n_candidates).
            costs: the candidates' costs, (n_candidates,).
        """
        chosen_by_part = self.rule.choose_by_part(self.scores, costs)
        cost, quality = (
            self.rule.expected(chosen_by_part, costs),
            self.rule.expected(chosen_by_part, labels),
        )
        return Outcome(cost, quality, self.lam)

    def served(self, costs: Floats, rule: RoutingRule | None = None) -> Ints:
        """Return the position of the candidate that is selected for each prompt, (n_test,).

        It is one draw of a randomized rule, for the examples and sets of images in the report. All
        other statistics are expectations over the draws (:meth:`outcome`).

        Args:
            costs: the candidates' costs, (n_candidates,).
            rule: the rule to apply; the calibrated rule if omitted.
        """
        rule = rule or self.rule
        return rule.select(rule.choose_by_part(self.scores, costs), self.draws)


def operating_point(router: Router, test: Dataset, seed: int) -> OperatingPoint:
    """Apply a router to the test prompts.

    Args:
        router: the calibrated router.
        test: the test prompts; its scores table provides the labels of the metrics with floors.
        seed: the seed of the draws of a randomized rule. The draw of a prompt does not depend on
            the other prompts.
    """
    texts = test.texts.tolist()
    predicted = router.predict(texts)
    return OperatingPoint(
        router.estimator_name,
        router.budget,
        router.rule,
        predicted,
        router.rule_inputs(texts, predicted),
        request_draws(texts, seed, test.ids),
        router.confidence,
        router.quality_floor,
        router.risk_aversion,
        tuple(
            FloorLabels(metric, floor, _labels_if_any(test, metric, router.candidates))
            for metric, floor in router.floors.items()
        ),
    )


def rule_at(router: Router, budget: float) -> RoutingRule:
    """Return the router's rule for a budget, a mean cost.

    A router with floors keeps them only at its own budget. For such a router, the result is the
    calibrated rule.
    """
    return router.rule if router.floors else router.rule_for(budget=budget)


def _labels_if_any(test: Dataset, metric: str, candidates: list[str]) -> Floats:
    """Return labels (n_test, n_candidates) in the metric's own direction, NaN where missing.

    All labels are NaN if the test prompts have no score of the metric.
    """
    ids, scores = test.ids, test.scores
    if not ((scores["metric"] == metric) & scores["prompt_id"].isin(ids)).any():
        return np.full((len(test), len(candidates)), np.nan)
    rows = ScoreRows.select(scores, metric, ids, candidates, test.paths.scores)
    return rows.labels(complete=False)
