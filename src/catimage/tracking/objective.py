r"""The objective of calibration, evaluated on labels, and the requirements that a router must meet.

The stage calibrate solves, on predictions, the problem of equation 1 of the CATImage paper with the
settings of the section ``calibrate``:

    maximise  mean(q - k s)   subject to   mean(c) <= B   and   mean(f_j) >= F_j for every floor j

Here q is the routed metric, s its predictive standard deviation, k ``risk_aversion``, c the cost,
B the budget, and f_j the metric of floor j, higher is better. The calibrated rule maximises the
Lagrangian of this problem prompt by prompt (equation 3, with further terms). Its prices are lambda
and one multiplier mu_j for each floor. The *objective* of a prompt i and a candidate m is this
Lagrangian with the label y instead of the prediction of q, labels z_j of the metrics of the floors,
and the prices, the costs and the predictive standard deviations of the challenger:

    U[i, m] = y[i, m] - k s[i, m] + sum_j mu_j z_j[i, m] - lambda c[m]

A router with the probabilities p[i, m] of its rule has the objective mean_i sum_m p[i, m] U[i, m].
The *gain* of the challenger over another router is the difference of their objectives; the
constants lambda B and mu_j F_j cancel. The prices make the terms comparable:

- A router that is cheaper, or whose floors are higher, may have a lower quality and still a
  positive gain. Therefore a challenger with floors, a confidence or a risk aversion can replace a
  champion without them, which has a higher quality.
- Weak duality: for a router that meets the requirements, the Lagrangian is at least its quality;
  for the challenger, whose prices are positive only for requirements that it meets exactly, both
  are equal. So, up to sampling errors, a challenger with a positive gain has a higher quality than
  a champion that meets the requirements.
- ``quality_floor`` minimises mean(c) subject to mean(q) >= F. The Lagrangian of this problem, c -
  (q - F) / lambda, is proportional to lambda c - q, so U is the same.
- With ``confidence`` the budget is kept with a certificate. Its lambda is larger than that of the
  budget alone, so the cost that the rule saves on purpose is credited at that price.

If a rule has several parts, it is optimal at prices for which its parts are equally good. Without
floors the larger lambda is this price: it is the lambda at which prompts switch between the two
parts. With floors, the prices are the means of those of the parts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from catimage.common.arrays import Floats
from catimage.router import Router
from catimage.routing.betting import is_certified


@dataclass(frozen=True)
class GateSample:
    """The prompts on which routers are compared, with the labels of the challenger's candidates.

    Attributes:
        prompts: the prompts, (n,).
        labels: labels, (1 + n_floors, n, n_candidates), higher is better: those of the routed
            metric and then those of the metrics of the challenger's floors.
        lower_is_better: names of the metrics whose scores are negated in ``labels``.
    """

    prompts: Sequence[str]
    labels: Floats
    lower_is_better: Collection[str] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    def as_label(self, metric: str, score: float) -> float:
        """Return a mean score as a mean label, or a mean label as a mean score."""
        return -score if metric in self.lower_is_better else score


@dataclass(frozen=True)
class Prices:
    """The prices of a rule, in units of the routed metric.

    Attributes:
        lam: lambda, per cost unit.
        multipliers: the multipliers by metric, per unit of the metric. The floors of two routers
            with the same settings may be in a different order.
    """

    lam: float
    multipliers: Mapping[str, float] = field(default_factory=dict)


def prices_of(router: Router) -> Prices:
    """Return the prices of a calibrated rule; see the module for rules with several parts."""
    rule = router.rule
    lam = float(rule.share @ rule.lam) if router.floors else float(rule.lam.max())
    means = (rule.share @ rule.multipliers).tolist()
    return Prices(lam, dict(zip(router.floors, means, strict=True)))


def objective(router: Router, sample: GateSample, prices: Prices | None = None) -> Floats:
    """Return the objective of calibration for every prompt and candidate, (n, n_candidates).

    Args:
        router: the router whose costs and predictive standard deviations are used.
        sample: the prompts, and labels in the order of the floors of ``router``.
        prices: the prices; by default, those of ``router``.
    """
    prices = prices or prices_of(router)
    utility = sample.labels[0] - prices.lam * router.costs
    if router.spread is not None:
        texts = np.array(sample.prompts, object)
        utility = utility - router.risk_aversion * np.asarray(router.spread.predict(texts))
    for metric, labels in zip(router.floors, sample.labels[1:], strict=True):
        utility = utility + prices.multipliers[metric] * labels
    return np.asarray(utility)


def selection(router: Router, candidates: Sequence[str], prompts: Sequence[str]) -> Floats:
    """Return the probabilities with which a router selects candidates, (n, n_candidates).

    Args:
        router: the router, which decides with its own candidates and costs.
        candidates: the names of the columns, which include the candidates of the router.
        prompts: the prompts, (n,).
    """
    inputs = router.rule_inputs(prompts, router.predict(prompts))
    column = np.array([candidates.index(name) for name in router.candidates])
    chosen = column[router.rule.choose_by_part(inputs, router.costs)]
    probabilities = np.zeros((len(prompts), len(candidates)))
    for share, positions in zip(router.rule.share, chosen, strict=True):
        probabilities[np.arange(len(prompts)), positions] += share
    return probabilities


def same_settings(champion: Router, challenger: Router) -> bool:
    """Test whether two routers were calibrated with the same settings.

    Budgets are compared in the cost unit, and as shares of the cost of the most expensive
    candidate: a budget in percent is the same setting after the costs are measured again.
    """
    keys = ("confidence", "quality_floor", "floors", "risk_aversion", "mix")
    same_budget = _keeps_budget(champion, challenger) and _keeps_budget(challenger, champion)
    same_others = all(getattr(champion, key) == getattr(challenger, key) for key in keys)
    return same_others and (same_budget or challenger.quality_floor is not None)


def unmet_requirements(
    champion: Router, challenger: Router, sample: GateSample, chosen: tuple[Floats, Floats]
) -> list[str]:
    """Return the new requirements of the challenger that the champion does not meet.

    A requirement is new if the champion was calibrated without it, or with a weaker one. Random
    deviations from requirements that both routers were calibrated for are no reason to replace a
    champion: the objective charges them at their prices. A new requirement that the challenger does
    not meet better than the champion is ignored.

    Args:
        champion: the current champion.
        challenger: the new router.
        sample: the prompts and labels.
        chosen: the outputs of :func:`selection` for the champion and for the challenger.

    Returns:
        One description per requirement, such as ``mean sharpness 0.21, floor 0.3``.
    """
    costs, unit = challenger.costs, challenger.cost_unit
    old, new = ((probabilities @ costs) for probabilities in chosen)
    unmet = []
    if challenger.quality_floor is None and not _keeps_budget(champion, challenger):
        budget = challenger.budget
        if old.mean() > budget * (1 + 1e-9) and new.mean() < old.mean():
            unmet.append(f"mean cost {old.mean():.4g} {unit}, budget {budget:.4g}")
        elif challenger.confidence and not _certified(old, challenger) and new.mean() < old.mean():
            unmet.append(f"mean cost {old.mean():.4g} {unit}, not certified for {budget:.4g}")
    for metric, value, labels in _new_floors(champion, challenger, sample):
        before, after = (float((p * labels).sum(axis=1).mean()) for p in chosen)
        if before < sample.as_label(metric, value) and after > before:
            score = sample.as_label(metric, before)
            unmet.append(f"mean {metric} {score:.4g}, floor {value:.4g}")
    return unmet


def _keeps_budget(champion: Router, challenger: Router) -> bool:
    """Test whether a champion was calibrated for the challenger's budget and confidence.

    See :func:`same_settings` for the comparison of budgets.
    """
    if champion.quality_floor is not None:
        return False
    if (challenger.confidence or 0.0) > (champion.confidence or 0.0):
        return False
    limit = challenger.budget * (1 + 1e-9)
    scale = float(challenger.costs.max()) / max(float(champion.costs.max()), 1e-300)
    return champion.budget <= limit or champion.budget * scale <= limit


def _certified(spent: Floats, challenger: Router) -> bool:
    """Test whether costs (n,) certify the budget and the confidence of the challenger."""
    values, count = np.unique(spent, return_counts=True)
    extremes = float(challenger.costs.min()), float(challenger.costs.max())
    return is_certified(values, count, challenger.budget, extremes, challenger.confidence or 0.0)


def _new_floors(
    champion: Router, challenger: Router, sample: GateSample
) -> list[tuple[str, float, Floats]]:
    """Return the metric, the bound and the labels of the floors that the champion does not have."""
    floors = dict(zip(challenger.floors.items(), sample.labels[1:], strict=True))
    if challenger.quality_floor is not None:
        floors[challenger.metric, challenger.quality_floor] = sample.labels[0]
    earlier = dict(champion.floors)
    if champion.quality_floor is not None:
        earlier[champion.metric] = champion.quality_floor
    return [
        (metric, value, labels)
        for (metric, value), labels in floors.items()
        if metric not in earlier
        or sample.as_label(metric, earlier[metric]) < sample.as_label(metric, value) - 1e-12
    ]
