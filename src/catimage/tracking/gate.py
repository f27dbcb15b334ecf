"""The promotion gate, which decides whether a registered router becomes the champion.

The champion is the router in production, the challenger the router that is being registered. The
gate compares them on the split ``gate``, which no stage reads:

1. A champion that cannot serve the challenger's pool (another metric, another cost unit, a removed
   candidate), or that does not meet a requirement which is new in the settings (a floor, a smaller
   budget, a confidence), is replaced: it is no alternative
   (:func:`~catimage.tracking.objective.unmet_requirements`).
2. Otherwise the gain of the challenger in the objective of calibration decides
   (:mod:`catimage.tracking.objective`). Its one-sided lower bound, with ``promote.confidence``,
   must be above 0 for the rule ``better`` and above ``-promote.margin`` for ``not_worse``. If both
   routers were calibrated with the same settings, the prices of both of them count
   (:mod:`catimage.tracking.gains`): either can be much too large, for example if its calibration
   could not certify any lambda.

If the criterion were a mean gain of at least 0, half of all equally good challengers would be
promoted; with ``better``, at most about 5% are.

With ``not_worse``, each of many promotions could reduce the quality by nearly the margin. The
margin is therefore measured from a fixed *reference*, not from the champion: from the last router
that was promoted because it was better than the reference before it, or because there was no
alternative. The tag ``reference`` of a promoted version is the version of its reference. The bound
holds for one comparison, not for all comparisons together: in simulations of 300 weeks in which
every challenger is worse than the champion, the last champion is 1.0 to 1.3 margins below the
first with new gate prompts every week, and 1.3 to 1.9 margins with the same gate prompts; with a
margin from the champion, it is 2.1 to 4.7 margins below (docs/promotion.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.one_sided import lower_bound
from catimage.params import PromoteParams
from catimage.router import Router
from catimage.tracking.gains import gains_by_prompt
from catimage.tracking.objective import GateSample, selection, unmet_requirements

MIN_PROMPTS = 20
"""Minimum number of gate prompts for a comparison."""
ROUNDING = 1e-12
"""Gains up to this absolute value, in the unit of the metric, are rounding errors."""

ReferenceRole = Literal["challenger", "champion", "reference"]


@dataclass(frozen=True)
class GateDecision:
    """The decision of the gate.

    Attributes:
        promoted: whether the challenger becomes champion.
        reason: the reason for the decision in one sentence.
        reference: the router that is the reference after the promotion: ``challenger``,
            ``champion`` (the champion before the promotion), or ``reference`` if it is unchanged.
        blocked: whether the routers could not be compared, so that a person has to decide.
        compared: whether the objectives of the two routers decided.
    """

    promoted: bool
    reason: str
    reference: ReferenceRole = "challenger"
    blocked: bool = False
    compared: bool = False


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison of two routers.

    Attributes:
        mean: the mean gain of the challenger.
        bound: the one-sided lower bound of the gain.
        better: whether the gain is above 0.
        promoted: whether the rule promotes the challenger.
    """

    mean: float
    bound: float
    better: bool
    promoted: bool


def judge(gains: Floats, settings: PromoteParams) -> Verdict:
    """Apply the rule of promotion to the gains of a challenger.

    A gain is only significant if enough prompts have a gain other than 0: with four equal gains, a
    sign test could not reach a confidence of 0.95.

    Args:
        gains: the gain in the objective by prompt, (n,), at least two.
        settings: the section ``promote``.
    """
    gains = np.where(np.abs(gains) <= ROUNDING, 0.0, gains)
    bound = lower_bound(gains, settings.confidence)
    enough = 0.5 ** np.count_nonzero(gains) <= 1 - settings.confidence
    better = bool(enough and bound > 0)
    not_worse = settings.rule == "not_worse" and bound > -settings.margin
    return Verdict(float(gains.mean()), bound, better, better or not_worse)


def compare_routers(
    champion: Router,
    challenger: Router,
    sample: GateSample,
    settings: PromoteParams,
    reference: Router | None = None,
) -> GateDecision:
    """Decide whether a challenger replaces the champion.

    Args:
        champion: the current champion.
        challenger: the new router.
        sample: the prompts of the gate split and the labels of the challenger's candidates.
        settings: the section ``promote``.
        reference: the reference of the rule ``not_worse``, if it is not the champion.
    """
    if obstacle := find_obstacle(champion, challenger):
        reason = f"the champion cannot be compared and cannot serve this pool: {obstacle}"
        return GateDecision(True, reason)
    if len(sample) < MIN_PROMPTS:
        return GateDecision(False, _few_prompts(len(sample)))
    names, prompts = challenger.candidates, sample.prompts
    old, new = (selection(router, names, prompts) for router in (champion, challenger))
    if unmet := unmet_requirements(champion, challenger, sample, (old, new)):
        reason = f"the champion does not meet the new settings of calibrate: {'; '.join(unmet)}"
        return GateDecision(True, reason)
    compared, other = _compared(champion, challenger, settings, reference)
    if compared is not champion:
        old = selection(compared, names, prompts)
    gains = gains_by_prompt((old, new), compared, challenger, sample, settings.confidence)
    verdict = judge(gains, settings)
    reason = _reason(verdict, settings, other, (old, new), challenger, sample)
    role: ReferenceRole = "challenger" if verdict.better else other
    return GateDecision(verdict.promoted, reason, role, compared=True)


def _reason(
    verdict: Verdict,
    settings: PromoteParams,
    other: str,
    chosen: tuple[Floats, Floats],
    challenger: Router,
    sample: GateSample,
) -> str:
    """Describe the result of a comparison with its figures.

    Args:
        verdict: the result.
        settings: the section ``promote``.
        other: the role of the router that the challenger was compared with.
        chosen: the outputs of :func:`~catimage.tracking.objective.selection` for this router and
            for the challenger.
        challenger: the challenger.
        sample: the prompts and labels.
    """
    old, new = chosen
    return (
        f"{_relation(verdict, settings, other)} on {len(sample)} gate prompts:"
        f" {challenger.metric} {_outcome(new, challenger, sample)} {challenger.cost_unit}, compared"
        f" with {_outcome(old, challenger, sample)}; the gain in the objective of calibration is"
        f" {verdict.mean:+.3g}, and above {verdict.bound:+.3g} with a confidence of"
        f" {settings.confidence:g}"
    )


def budget_excess(challenger: Router, sample: GateSample, settings: PromoteParams) -> str:
    """Return how a challenger exceeds its budget significantly; empty if it does not.

    A challenger that was calibrated with ``quality_floor`` has no budget.

    Args:
        challenger: the new router.
        sample: the prompts of the gate split, at least two.
        settings: the section ``promote``.
    """
    if challenger.quality_floor is not None:
        return ""
    spent = selection(challenger, challenger.candidates, sample.prompts) @ challenger.costs
    if lower_bound(spent - challenger.budget, settings.confidence) <= challenger.budget * 1e-9:
        return ""
    return (
        f"it exceeds the budget on {len(spent)} gate prompts: the mean cost is"
        f" {spent.mean():.4g} {challenger.cost_unit}, and the budget {challenger.budget:.4g}"
    )


def _compared(
    champion: Router, challenger: Router, settings: PromoteParams, reference: Router | None
) -> tuple[Router, ReferenceRole]:
    """Return the router from which the gain is measured, and its role."""
    if settings.rule == "not_worse" and reference and not find_obstacle(reference, challenger):
        return reference, "reference"
    return champion, "champion"


def find_obstacle(champion: Router, challenger: Router) -> str:
    """Return the reason why two routers cannot be compared; empty if they can."""
    if champion.metric != challenger.metric:
        return f"it routes on {champion.metric}, not {challenger.metric}"
    if champion.cost_unit != challenger.cost_unit:
        return f"its costs are in {champion.cost_unit}, not {challenger.cost_unit}"
    removed = [name for name in champion.candidates if name not in challenger.candidates]
    return f"its candidates {', '.join(removed)} are no longer in the pool" if removed else ""


def _few_prompts(n: int) -> str:
    return (
        f"not compared with the champion: {n} prompts of the split gate have a label of every"
        f" candidate, and {MIN_PROMPTS} are needed. Add prompts, or increase gate_share (of sample,"
        " or of import), and run the stages again"
    )


def _relation(verdict: Verdict, settings: PromoteParams, other: str) -> str:
    """Describe the result of a comparison, without figures."""
    if verdict.better:
        return f"better than the {other}"
    if settings.rule == "better":
        return f"not significantly better than the {other}"
    word = "not worse" if verdict.promoted else "possibly worse"
    return f"{word} than the {other} by {settings.margin:g} or more"


def _outcome(probabilities: Floats, challenger: Router, sample: GateSample) -> str:
    """Return the mean score and the mean cost of a router as text."""
    quality = float((probabilities * sample.labels[0]).sum(axis=1).mean())
    cost = float((probabilities @ challenger.costs).mean())
    return f"{sample.as_label(challenger.metric, quality):.5g} at {cost:.4g}"
