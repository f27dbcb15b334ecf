"""A part of stage calibrate: the rule for what ``calibrate`` asks for, from predictions and labels
of the validation split.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.missing_labels import complete_rows
from catimage.errors import InputError
from catimage.metrics import lower_is_better
from catimage.params import Params
from catimage.routing.certificate import Certifier, always_cheapest, budgets_and_rules
from catimage.routing.curve import Curve, deferral_curve
from catimage.routing.floors import best_with_floors, cheapest_reaching
from catimage.routing.randomized import Rule, rule_within

STEPS = 128
"""Budgets other than the calibrated one for which rules are certified."""


@dataclass(frozen=True)
class Validation:
    """What is routed on, and the labels (NaN where one is missing): (1 + n_floors, n_val,
    n_candidates) each, the routed metric first.
    """

    scores: Floats
    labels: Floats


@dataclass(frozen=True)
class Found:
    """The rule, the budget that it is for, and what it gives on the validation split.

    Attributes:
        quality: the mean label, over prompts that have all; ``kept`` are those of the floors'
            metrics, in the metrics' own direction.
        curve: of the routed metric's scores, or with floors of these and the others by their
            multipliers.
        certified: rules for other budgets, where there is a confidence.
        note: more to say.
    """

    rule: Rule
    budget: float
    mean_cost: float
    curve: Curve
    quality: float | None
    kept: dict[str, float] = field(default_factory=dict)
    certified: list[tuple[float, Rule]] = field(default_factory=list)
    note: str = ""

    def sentence(self, unit: str) -> str:
        """In words."""
        lam = " and ".join(
            f"{lam:.6g} ({share:.1%})" if len(self.rule.lam) > 1 else f"{lam:.6g}"
            for share, lam in self._parts()
        )
        kept = "".join(f", {metric} {value:.5g}" for metric, value in self.kept.items())
        return (
            f"lambda {lam}, mean cost {self.mean_cost:.4g} of {self.budget:.4g}"
            f" {unit}{kept}{self.note}"
        )

    def _parts(self) -> list[tuple[float, float]]:
        return list(zip(self.rule.share.tolist(), self.rule.lam.tolist(), strict=True))


def find_rule(on: Validation, cost: Floats, params: Params, looked: int = 1) -> Found:
    """The rule that ``params.calibrate`` asks for.

    Args:
        cost: (n_candidates,).
        looked: among how many estimators, each setting of one counted, the one was chosen by a look
            at the validation split. A confidence must hold for each of them.

    Raises:
        InputError: nothing meets the budget or a floor; it says what does.
    """
    asked, budget = params.calibrate, params.budget_in(float(cost.max()))
    if asked.floors:
        return _with_floors(on, cost, budget, params)
    curve = _curve(on.scores[0], cost, on)
    if asked.quality_floor is not None:
        _check_judged(
            on.labels[0], f"quality_floor: no validation prompt has a {params.metric} score"
        )
        floor = (
            -asked.quality_floor if lower_is_better(params.metric, params) else asked.quality_floor
        )
        rule, spent = cheapest_reaching(curve, floor, asked.mix)
        return _judged(Found(rule, spent, spent, curve, None), on, cost)
    if asked.confidence is not None:
        return _certain(on, cost, budget, curve, params, looked)
    rule, spent = rule_within(curve, budget, float(cost.min()), asked.mix)
    return _judged(Found(rule, budget, spent, curve, None), on, cost)


def _curve(scores: Floats, cost: Floats, on: Validation) -> Curve:
    """The deferral curve of ``scores``; its quality is theirs where no prompt has all labels."""
    return deferral_curve(scores, cost, on.labels[0] if len(complete_rows(on.labels[0])) else None)


def _check_judged(labels: Floats, what: str) -> None:
    if not len(complete_rows(labels)):
        raise InputError(
            f"calibrate.{what} of every candidate, so that no floor can be judged: score more of"
            " that split."
        )


def _with_floors(on: Validation, cost: Floats, budget: float, params: Params) -> Found:
    names = list(params.calibrate.floors)
    for name, labels in zip(names, on.labels[1:], strict=True):
        _check_judged(labels, f"floors: no validation prompt has a {name} score")
    signs = np.array([-1.0 if lower_is_better(name, params) else 1.0 for name in names])
    floors = signs * np.array([params.calibrate.floors[name] for name in names])
    best = best_with_floors(on.scores, on.labels[1:], cost, budget, floors, names)
    multipliers = best.rule.share @ best.rule.multipliers
    curve = _curve(on.scores[0] + np.tensordot(multipliers, on.scores[1:], 1), cost, on)
    kept = dict(zip(names, (signs * best.kept).tolist(), strict=True))
    return _judged(Found(best.rule, budget, best.mean_cost, curve, None, kept), on, cost)


def _certain(
    on: Validation, cost: Floats, budget: float, curve: Curve, params: Params, looked: int
) -> Found:
    asked = params.calibrate
    confidence = (
        1 - (1 - float(asked.confidence or 0.0)) / looked
    )  # none of the estimators among which was chosen may fail
    certifier = Certifier(on.scores[0], cost, confidence)
    rule, note = (
        certifier.rule(budget, asked.mix),
        f", kept with a confidence of {asked.confidence:g}",
    )
    if rule is None:
        least = certifier.smallest_budget()
        rule = always_cheapest(on.scores[0], cost)
        note = (
            f": with {on.scores.shape[1]} validation prompts no lambda is certain to keep it, so"
            f" that every prompt goes to the cheapest candidate; a budget of {least:.4g} is kept"
            f" with a confidence of {asked.confidence:g}"
        )
    found = Found(
        rule,
        budget,
        0.0,
        curve,
        None,
        certified=budgets_and_rules(certifier, STEPS, asked.mix),
        note=note,
    )
    return _judged(found, on, cost)


def _judged(found: Found, on: Validation, cost: Floats) -> Found:
    """With the mean cost and quality that the rule gives."""
    scores = on.scores if found.kept else on.scores[0]
    choices = found.rule.choices(scores, cost)
    whole = complete_rows(on.labels[0])
    quality = (
        found.rule.expected(choices[:, whole], on.labels[0][whole]).mean() if len(whole) else None
    )
    spent = float(found.rule.expected(choices, cost).mean())
    return replace(found, mean_cost=spent, quality=None if quality is None else float(quality))
