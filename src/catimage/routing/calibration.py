"""Calibration: find the routing rule that meets requirements on the validation prompts.

:func:`calibrate` handles every setting of the section ``calibrate`` of ``params.yaml``;
:func:`calibrate_to_budget` is the plain case (CATImage, equations 1 and 3).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.missing_labels import complete_rows
from catimage.errors import InputError
from catimage.routing.certificate import CertifiedRules, Certifier, cheapest_rule
from catimage.routing.curve import DeferralCurve, deferral_curve
from catimage.routing.floors import FloorProblem, best_with_floors, cheapest_reaching
from catimage.routing.randomized import RoutingRule, rule_within

CERTIFIED_BUDGETS = 128
"""Number of other budgets for which a rule is certified."""


@dataclass(frozen=True)
class RuleRequirements:
    """The requirements of a routing rule.

    At most one of ``quality_floor``, ``floors`` and ``confidence`` may be set. Qualities are in the
    direction of their metric.

    Attributes:
        metric: name of the routed metric.
        budget: upper bound of the mean cost per image; ignored with ``quality_floor``.
        mix: whether two lambdas may be combined to spend the whole budget.
        quality_floor: mean quality of the routed metric that the cheapest rule has to reach.
        floors: bounds of the mean quality of other metrics, by name.
        confidence: probability that the true mean cost is within the budget.
        n_compared: number of estimators (settings included) among which the estimator was selected
            on the same prompts; ``confidence`` is corrected for it (Bonferroni).
        lower_is_better: names of the metrics whose low values are good.
    """

    metric: str
    budget: float
    mix: bool = True
    quality_floor: float | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    confidence: float | None = None
    n_compared: int = 1
    lower_is_better: Collection[str] = ()

    def sign(self, metric: str) -> float:
        """Return -1 if the metric is lower-is-better, otherwise 1."""
        return -1.0 if metric in self.lower_is_better else 1.0


@dataclass(frozen=True)
class CalibratedRule:
    """A routing rule, and its results on the calibration prompts.

    Attributes:
        rule: the rule.
        budget: the budget that it was calibrated for; with a quality floor, its mean cost.
        mean_cost: mean cost per image.
        curve: deferral curve of the routed metric's predictions; with floors, of their sum with the
            other metrics', weighted by the rule's multipliers.
        quality: mean label of the prompts that have all labels; None if there is no such prompt.
        floor_qualities: mean score of each floor's metric, by name, in the metric's direction.
        certified: certified rules for other budgets, if there is a confidence.
        note: additional text for :meth:`summary`.
    """

    rule: RoutingRule
    budget: float
    mean_cost: float
    curve: DeferralCurve
    quality: float | None = None
    floor_qualities: Mapping[str, float] = field(default_factory=dict)
    certified: CertifiedRules | None = None
    note: str = ""

    @property
    def lam(self) -> float:
        """The smallest lambda that keeps the budget alone: the largest of the rule's lambdas."""
        return float(self.rule.lam.max())

    def summary(self, unit: str) -> str:
        """Describe the rule in one line, with costs in ``unit``."""
        parts = zip(self.rule.share.tolist(), self.rule.lam.tolist(), strict=True)
        lam = " and ".join(
            f"{lam:.6g} ({share:.1%})" if len(self.rule.lam) > 1 else f"{lam:.6g}"
            for share, lam in parts
        )
        floors = "".join(f", {name} {mean:.5g}" for name, mean in self.floor_qualities.items())
        return (
            f"lambda {lam}, mean cost {self.mean_cost:.4g} of {self.budget:.4g}"
            f" {unit}{floors}{self.note}"
        )


def calibrate_to_budget(
    predicted: Floats, cost: Floats, budget: float, labels: Floats | None = None, mix: bool = True
) -> CalibratedRule:
    """Find the rule with the best predicted quality whose mean cost is within a budget.

    Args:
        predicted: predicted quality of the validation prompts, (n_prompts, n_candidates).
        cost: (n_candidates,).
        budget: mean cost per image, in the unit of ``cost``.
        labels: (n_prompts, n_candidates), for the quality of the curve; ``predicted`` by default.
        mix: whether two neighbouring lambdas may be combined to spend the whole budget.

    Raises:
        InputError: the budget is below the cost of the cheapest candidate.
    """
    curve = deferral_curve(predicted, cost, labels)
    rule, mean_cost = rule_within(curve, budget, float(cost.min()), mix)
    return CalibratedRule(rule, budget, mean_cost, curve)


def calibrate(
    predicted: Floats, labels: Floats, cost: Floats, requirements: RuleRequirements
) -> CalibratedRule:
    """Find the rule that meets all requirements.

    Args:
        predicted: predicted quality of the validation prompts, (1 + n_floors, n_prompts,
            n_candidates), the routed metric first and then the floors' metrics in their order.
        labels: labels, in the same shape, NaN where one is missing.
        cost: (n_candidates,).
        requirements: the requirements.

    Raises:
        InputError: no rule meets the budget or a floor.
    """
    if requirements.floors:
        calibrated = _with_floors(predicted, labels, cost, requirements)
        return _with_results(calibrated, predicted, labels[0], cost)
    routed, mix = predicted[0], requirements.mix
    usable = labels[0] if len(complete_rows(labels[0])) else None
    if requirements.quality_floor is not None:
        _check_complete(labels[0], "quality_floor", requirements.metric)
        curve = deferral_curve(routed, cost, usable)
        floor = requirements.sign(requirements.metric) * requirements.quality_floor
        rule, spent = cheapest_reaching(curve, floor, mix)
        calibrated = CalibratedRule(rule, spent, spent, curve)
    elif requirements.confidence is not None:
        calibrated = _with_confidence(routed, usable, cost, requirements)
    else:
        calibrated = calibrate_to_budget(routed, cost, requirements.budget, usable, mix)
    return _with_results(calibrated, routed, labels[0], cost)


def _check_complete(labels: Floats, key: str, metric: str) -> None:
    if not len(complete_rows(labels)):
        raise InputError(
            f"calibrate.{key}: no validation prompt has a {metric} score of every candidate. Score"
            " more images of the validation split, or remove the floor."
        )


def _with_floors(
    predicted: Floats, labels: Floats, cost: Floats, requirements: RuleRequirements
) -> CalibratedRule:
    names = list(requirements.floors)
    for name, floor_labels in zip(names, labels[1:], strict=True):
        _check_complete(floor_labels, "floors", name)
    signs = np.array([requirements.sign(name) for name in names])
    floors = signs * np.array([requirements.floors[name] for name in names])
    best = best_with_floors(
        FloorProblem(predicted, labels[1:], cost, requirements.budget, floors, names)
    )
    multipliers = best.rule.share @ best.rule.multipliers
    weighted = predicted[0] + np.tensordot(multipliers, predicted[1:], 1)
    curve = deferral_curve(weighted, cost, labels[0] if len(complete_rows(labels[0])) else None)
    means = dict(zip(names, (signs * best.mean_labels).tolist(), strict=True))
    return CalibratedRule(
        best.rule, requirements.budget, best.mean_cost, curve, floor_qualities=means
    )


def _with_confidence(
    predicted: Floats, labels: Floats | None, cost: Floats, requirements: RuleRequirements
) -> CalibratedRule:
    budget, mix = requirements.budget, requirements.mix
    nominal = float(requirements.confidence or 0.0)
    certifier = Certifier(predicted, cost, 1 - (1 - nominal) / requirements.n_compared)
    rule = certifier.rule(budget, mix)
    note = f", kept with a confidence of {nominal:g}"
    if rule is None:
        rule = cheapest_rule(predicted, cost)
        note = (
            f": {len(predicted)} validation prompts are too few to certify a lambda, so every"
            " prompt is routed to the cheapest candidate; a budget of"
            f" {certifier.smallest_budget():.4g} can be kept with a confidence of {nominal:g}"
        )
    curve = deferral_curve(predicted, cost, labels)
    certified = CertifiedRules.compute(certifier, CERTIFIED_BUDGETS, mix)
    return CalibratedRule(rule, budget, 0.0, curve, certified=certified, note=note)


def _with_results(
    calibrated: CalibratedRule, predicted: Floats, labels: Floats, cost: Floats
) -> CalibratedRule:
    """Set the mean cost and quality of the rule on the calibration prompts."""
    rule, complete = calibrated.rule, complete_rows(labels)
    choices = rule.choices(predicted, cost)
    mean_cost = float(rule.expected(choices, cost).mean())
    if not len(complete):
        return replace(calibrated, mean_cost=mean_cost, quality=None)
    quality = float(rule.expected(choices[:, complete], labels[complete]).mean())
    return replace(calibrated, mean_cost=mean_cost, quality=quality)
