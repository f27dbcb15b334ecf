"""Calibration: find the routing rule that meets requirements on the validation prompts.

:func:`calibrate` applies every setting of the section ``calibrate`` of ``params.yaml``;
:func:`calibrate_to_budget` applies a budget only (CATImage paper, equations 1 and 3).
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
"""Number of evenly spaced budgets for which certified rules are searched and saved."""


@dataclass(frozen=True)
class RuleRequirements:
    """The requirements of a routing rule.

    At most one of ``quality_floor``, ``floors`` and ``confidence`` may be set. A floor is a lower
    bound, or an upper bound if low values of its metric are good.

    Attributes:
        metric: name of the routed metric.
        budget: upper bound of the mean cost per image; ignored with ``quality_floor``.
        mix: whether two lambdas may be combined to spend the whole budget.
        quality_floor: bound of the mean score of the routed metric. The rule reaches it at the
            lowest mean cost.
        floors: bounds of the mean scores of other metrics, by name.
        confidence: minimum probability that the true mean cost is within the budget.
        n_compared: number of pairs of an estimator and its settings that were compared on the
            calibration prompts to select the estimator. ``confidence`` is corrected for this
            number (Bonferroni).
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
        """Return -1 if low values of the metric are good, otherwise 1."""
        return -1.0 if metric in self.lower_is_better else 1.0


@dataclass(frozen=True)
class CalibratedRule:
    """A routing rule, and its results on the calibration prompts.

    Attributes:
        rule: the rule.
        budget: the budget of the calibration; with a quality floor, the mean cost of the rule.
        mean_cost: mean cost per image.
        curve: deferral curve of the predictions of the routed metric. With floors, it is the curve
            of a weighted sum: the predictions of the routed metric plus the predictions of the
            other metrics times the multipliers of the rule.
        quality: mean label (score averaged over seeds) of the prompts that have a label for every
            candidate; None if there is no such prompt.
        floor_qualities: mean score of the metric of each floor, by name.
        certified: certified rules for other budgets; None without a confidence.
        note: text that :meth:`summary` appends.
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
        """The largest lambda of the rule; a rule with this lambda alone keeps the budget."""
        return float(self.rule.lam.max())

    def summary(self, unit: str) -> str:
        """Describe the rule in one line; ``unit`` is the cost unit."""
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
    """Find the rule with the best predicted quality among those that keep a budget.

    Args:
        predicted: predicted quality of the validation prompts, (n_prompts, n_candidates).
        cost: cost of one image, (n_candidates,).
        budget: mean cost per image, in the unit of ``cost``.
        labels: labels from which the quality of the curve is computed, (n_prompts, n_candidates);
            ``predicted`` by default.
        mix: whether two lambdas may be combined to spend the whole budget.

    Raises:
        InputError: the budget is below the cost of the cheapest candidate.
    """
    curve = deferral_curve(predicted, cost, labels)
    rule, mean_cost = rule_within(curve, budget, cost, mix)
    return CalibratedRule(rule, budget, mean_cost, curve)


def calibrate(
    predicted: Floats, labels: Floats, cost: Floats, requirements: RuleRequirements
) -> CalibratedRule:
    """Find the rule that meets all requirements.

    Args:
        predicted: predicted metrics of the validation prompts, (1 + n_floors, n_prompts,
            n_candidates), the routed metric first and then the metrics of ``requirements.floors``
            in their order.
        labels: labels, (1 + n_floors, n_prompts, n_candidates), NaN where a label is missing.
        cost: cost of one image, (n_candidates,).
        requirements: the requirements.

    Raises:
        InputError: no rule meets the budget or a floor.
    """
    if requirements.floors:
        calibrated = _calibrate_to_floors(predicted, labels, cost, requirements)
        return _with_results(calibrated, predicted, labels[0], cost)
    routed, mix = predicted[0], requirements.mix
    curve_labels = labels[0] if len(complete_rows(labels[0])) else None
    if requirements.quality_floor is not None:
        _check_any_complete(labels[0], "quality_floor", requirements.metric)
        curve = deferral_curve(routed, cost, curve_labels)
        floor = requirements.sign(requirements.metric) * requirements.quality_floor
        rule, spent = cheapest_reaching(curve, floor, mix)
        calibrated = CalibratedRule(rule, spent, spent, curve)
    elif requirements.confidence is not None:
        calibrated = _calibrate_with_confidence(routed, curve_labels, cost, requirements)
    else:
        calibrated = calibrate_to_budget(routed, cost, requirements.budget, curve_labels, mix)
    return _with_results(calibrated, routed, labels[0], cost)


def _check_any_complete(labels: Floats, key: str, metric: str) -> None:
    """Raise InputError unless a prompt has a label for every candidate."""
    if not len(complete_rows(labels)):
        raise InputError(
            f"calibrate.{key}: no validation prompt has a {metric} score of every candidate. Score"
            " more images of the validation split, or remove the floor."
        )


def _calibrate_to_floors(
    predicted: Floats, labels: Floats, cost: Floats, requirements: RuleRequirements
) -> CalibratedRule:
    """Find the rule with the best predicted quality within the budget and with all floors."""
    names = list(requirements.floors)
    for name, floor_labels in zip(names, labels[1:], strict=True):
        _check_any_complete(floor_labels, "floors", name)
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


def _calibrate_with_confidence(
    predicted: Floats, labels: Floats | None, cost: Floats, requirements: RuleRequirements
) -> CalibratedRule:
    """Find the most expensive certified rule of the budget, and those of further budgets."""
    budget, mix = requirements.budget, requirements.mix
    nominal = float(requirements.confidence or 0.0)
    certifier = Certifier(predicted, cost, 1 - (1 - nominal) / requirements.n_compared)
    rule = certifier.rule(budget, mix)
    note = f", met with a confidence of {nominal:g}"
    if rule is None:
        rule = cheapest_rule(predicted, cost)
        note = (
            f": {len(predicted)} validation prompts are too few to certify a lambda, so every"
            " prompt is routed to the cheapest candidate; a budget of"
            f" {certifier.smallest_budget():.4g} can be met with a confidence of {nominal:g}"
        )
    curve = deferral_curve(predicted, cost, labels)
    certified = CertifiedRules.compute(certifier, CERTIFIED_BUDGETS, mix, budget)
    return CalibratedRule(rule, budget, 0.0, curve, certified=certified, note=note)


def _with_results(
    calibrated: CalibratedRule, predicted: Floats, labels: Floats, cost: Floats
) -> CalibratedRule:
    """Return a copy with the mean cost and the quality of the rule on the calibration prompts."""
    rule, complete = calibrated.rule, complete_rows(labels)
    chosen_by_part = rule.choose_by_part(predicted, cost)
    mean_cost = float(rule.expected(chosen_by_part, cost).mean())
    if not len(complete):
        return replace(calibrated, mean_cost=mean_cost, quality=None)
    quality = float(rule.expected(chosen_by_part[:, complete], labels[complete]).mean())
    return replace(calibrated, mean_cost=mean_cost, quality=quality)
