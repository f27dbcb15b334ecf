"""The gain of a challenger over another router, prompt by prompt, at prices that are fair to both.

With different settings, the prices are those of the challenger
(:mod:`catimage.tracking.objective`). With the same settings, the prices of both routers estimate
the same quantities, and either can be much too large: a rule that could not certify any lambda has
a lambda of about a billion, and a rule that was calibrated on few prompts is too careful. At a
price that is too large, a router that saves cost is better than any other. If it is the challenger,
it would always be promoted; if it is the champion, it would never be replaced. Therefore:

- A requirement has the *lower* of its two prices. Quality is what is maximised: a cost below the
  budget, or a metric above its floor, is worth no more than the smallest estimate.
- What the challenger spends above the budget, or lacks below a floor, on the gate prompts has the
  *higher* price. So a challenger whose price is too small, and which is better only because it
  exceeds the budget, has no advantage. With ``calibrate.confidence`` the rule has a certificate
  from the validation prompts; then an excess only counts if it is significant on the gate prompts.
- With ``quality_floor`` cost and quality have changed roles: cost is minimised, and quality above
  the floor is worth no more than the smallest estimate, which is that of the larger lambda. It is
  used if the challenger reaches the floor on the gate prompts, and otherwise the smaller lambda.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.one_sided import lower_bound
from catimage.router import Router
from catimage.tracking.objective import GateSample, Prices, objective, prices_of, same_settings


def gains_by_prompt(
    chosen: tuple[Floats, Floats],
    other: Router,
    challenger: Router,
    sample: GateSample,
    confidence: float,
) -> Floats:
    """Return the gain of the challenger over the champion or the reference, (n,).

    Args:
        chosen: the selection probabilities of the other router and of the challenger,
            (n, n_candidates) each.
        other: the champion or the reference.
        challenger: the challenger.
        sample: the prompts and labels.
        confidence: confidence with which an excess of a certified rule is significant.
    """
    old, new = chosen
    own = prices_of(challenger)
    if not same_settings(other, challenger):
        return _gains(new - old, challenger, sample, own)
    both = (own, prices_of(other))
    if challenger.quality_floor is not None:
        lam = _lambda_of_quality_floor(new, challenger, sample, both)
        return _gains(new - old, challenger, sample, replace(own, lam=lam))
    lower = Prices(min(p.lam for p in both), _lower_multipliers(*both))
    return _gains(new - old, challenger, sample, lower) - _surcharge(
        new, challenger, sample, (lower, *both), confidence
    )


def _gains(difference: Floats, challenger: Router, sample: GateSample, prices: Prices) -> Floats:
    """Return the gains, (n,), of a difference of selection probabilities, (n, n_candidates)."""
    return np.asarray((difference * objective(challenger, sample, prices)).sum(axis=1))


def _lower_multipliers(first: Prices, second: Prices) -> dict[str, float]:
    return {m: min(value, second.multipliers[m]) for m, value in first.multipliers.items()}


def _lambda_of_quality_floor(
    new: Floats, challenger: Router, sample: GateSample, both: tuple[Prices, Prices]
) -> float:
    """Return the larger lambda if the challenger reaches its quality floor, else the smaller."""
    floor = sample.as_label(challenger.metric, challenger.quality_floor or 0.0)
    reached = float((new * sample.labels[0]).sum(axis=1).mean()) >= floor
    return max(p.lam for p in both) if reached else min(p.lam for p in both)


def _surcharge(
    new: Floats,
    challenger: Router,
    sample: GateSample,
    prices: tuple[Prices, Prices, Prices],
    confidence: float,
) -> Floats:
    """Return the excess over the requirements times the difference of the prices, (n,).

    Args:
        new: the selection probabilities of the challenger, (n, n_candidates).
        challenger: the challenger.
        sample: the prompts and labels.
        prices: the lower prices, and those of both routers.
        confidence: see :func:`gains_by_prompt`.
    """
    lower, first, second = prices
    total = np.zeros(len(sample))
    spent = new @ challenger.costs - challenger.budget
    certified = challenger.confidence is not None
    if (lower_bound(spent, confidence) if certified else spent.mean()) > 0:
        total += (max(first.lam, second.lam) - lower.lam) * spent
    for (metric, floor), labels in zip(challenger.floors.items(), sample.labels[1:], strict=True):
        lacking = sample.as_label(metric, floor) - (new * labels).sum(axis=1)
        if lacking.mean() > 0:
            higher = max(p.multipliers[metric] for p in (first, second))
            total += (higher - lower.multipliers[metric]) * lacking
    return total
