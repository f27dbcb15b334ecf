"""The gate in front of ``champion``: a new router replaces it only if it is not worse on the same
test prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.intervals import PairedBootstrap
from catimage.router import Router


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger becomes champion, and why, in words."""

    moves: bool
    reason: str


def judge(
    champion: Router,
    challenger: Router,
    prompts: list[str],
    labels: Floats,
    draws: int = 2000,
    seed: int = 0,
) -> Verdict:
    """Compares two routers on the challenger's test prompts, each routing with its own lambda.

    What is compared is what equation 3 maximises, the mean of quality minus lambda times cost, with
    the challenger's lambda and costs: today's price of quality. *Not worse* is read strictly: the
    mean difference, paired over prompts, is 0 or more; its 95% interval is told beside it. Asking
    only that the difference be not significantly negative would let quality slide, a little at each
    retraining. A champion of another metric or cost unit, or with a candidate that is not in the
    pool any more, cannot be compared; nor can it serve this pool, so it is replaced.

    Args:
        prompts: (n,) of the test split; ``labels`` (n, challenger's candidates), higher is better.
        draws, seed: of the bootstrap.
    """
    obstacle = _obstacle(champion, challenger)
    if obstacle:
        return Verdict(True, f"the champion cannot be compared, nor serve this pool: {obstacle}")
    old, new = (
        _outcome(champion, challenger, prompts, labels),
        _outcome(challenger, challenger, prompts, labels),
    )
    gain = (new[0] - old[0]) - challenger.lam * (new[1] - old[1])
    low, high = PairedBootstrap(len(prompts), draws, seed).interval(gain)
    moves = bool(gain.mean() >= -1e-12)
    reason = (
        f"{'not worse' if moves else 'worse'} than the champion on {len(prompts)} test prompts:"
        f" {challenger.metric} {new[0].mean():.5g} at {new[1].mean():.4g} {challenger.cost_unit}"
        f" against {old[0].mean():.5g} at {old[1].mean():.4g}; with lambda {challenger.lam:.4g}"
        f" that is {gain.mean():+.3g} [{low:+.3g}, {high:+.3g}]"
    )
    return Verdict(moves, reason)


def _obstacle(champion: Router, challenger: Router) -> str:
    """Why the two cannot be compared, or an empty string."""
    if champion.metric != challenger.metric:
        return f"it routes on {champion.metric}, not {challenger.metric}"
    if champion.cost_unit != challenger.cost_unit:
        return f"its costs are in {champion.cost_unit}, not {challenger.cost_unit}"
    gone = [c for c in champion.candidates if c not in challenger.candidates]
    return f"its candidates {', '.join(gone)} are not in the pool any more" if gone else ""


def _outcome(
    router: Router, pool: Router, prompts: list[str], labels: Floats
) -> tuple[Floats, Floats]:
    """Quality and cost (n,) of a router's decisions, by ``labels`` and costs of ``pool``'s
    candidates.
    """
    chosen = np.array([pool.candidates.index(d.candidate) for d in router.route(prompts)])
    return labels[np.arange(len(prompts)), chosen], pool.costs[chosen]
