"""The decisions, costs and qualities that the calibrated router is expected to have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from catimage.common.arrays import Floats
from catimage.router import Router
from catimage.routing.curve import deferral_curve
from catimage.routing.randomized import RoutingRule

LAMBDAS = 200
"""Largest number of lambdas at which the shares of the decisions are computed."""


@dataclass(frozen=True)
class Expected:
    """The behaviour of a router on prompts that it was not trained on.

    Attributes:
        router: digest of the router.
        budget: mean cost per image that the service keeps.
        candidates: names of the candidates.
        costs: cost of one image of each candidate.
        shares: share of the decisions of each candidate by the calibrated rule.
        lambdas: lambdas in ascending order, the first one 0.
        shares_by_lambda: shares of the decisions from each of these lambdas to the next one,
            (n_lambdas, n_candidates).
        prompts: number of prompts from which the shares were computed.
        quality: mean, over prompts and candidates, of the predicted quality.
        quality_spread: standard deviation over prompts of the mean predicted quality of all
            candidates.
        label_spread: standard deviation of the labels of the routed metric; None if there are no
            labels.
    """

    router: str
    budget: float
    candidates: list[str]
    costs: list[float]
    shares: list[float]
    lambdas: list[float]
    shares_by_lambda: list[list[float]]
    prompts: int
    quality: float
    quality_spread: float
    label_spread: float | None

    @classmethod
    def compute(
        cls,
        digest: str,
        router: Router,
        rule: RoutingRule,
        budget: float,
        prompts: Sequence[str],
        labels: Floats | None,
        explore: float = 0.0,
    ) -> Self:
        """Apply a rule to prompts of the splits ``val`` and ``test``.

        Args:
            digest: digest of the router.
            router: the router.
            rule: the rule of the service at its budget.
            budget: the budget.
            prompts: the prompts.
            labels: labels of the routed metric, of any shape; None if there are none.
            explore: share of the requests whose candidate is drawn at random.
        """
        predicted = router.predict(prompts)
        inputs = router.rule_inputs(prompts, predicted)
        lambdas = deferral_curve(inputs[0], router.costs).thinned(LAMBDAS).lam.tolist()
        rules = [rule, *(router.rule_for(lam=lam) for lam in lambdas)]
        shares, *by_lambda = (_shares(some, inputs, router, explore) for some in rules)
        return cls(
            digest,
            budget,
            list(router.candidates),
            router.costs.tolist(),
            shares,
            lambdas,
            by_lambda,
            len(prompts),
            float(predicted.mean()),
            float(predicted.mean(1).std()),
            None if labels is None else float(np.nanstd(labels)),
        )

    def shares_at(self, lambdas: Floats) -> Floats:
        """Return the share of each candidate at some lambdas, (n_lambdas, n_candidates)."""
        rows = np.searchsorted(self.lambdas, lambdas, side="right") - 1
        shares: Floats = np.array(self.shares_by_lambda)[rows]
        return shares

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as a JSON object."""
        return asdict(self)


def _shares(rule: RoutingRule, inputs: Floats, router: Router, explore: float) -> list[float]:
    """Return the share of the decisions of each candidate by a rule, rounded."""
    chosen = rule.choose_by_part(inputs, router.costs)
    counted = [rule.expected(chosen, column).mean() for column in np.eye(len(router.candidates))]
    shares = (1 - explore) * np.array(counted) + explore / len(counted)
    rounded: list[float] = shares.round(4).tolist()
    return rounded
