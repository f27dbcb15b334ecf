"""The decisions, costs and qualities that the calibrated router is expected to have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from catimage.common.arrays import Floats
from catimage.router import Router
from catimage.routing.randomized import RoutingRule


@dataclass(frozen=True)
class Expected:
    """The behaviour of a router on prompts that it was not trained on.

    Attributes:
        router: digest of the router.
        budget: mean cost per image that the service keeps.
        candidates: names of the candidates.
        costs: cost of one image of each candidate.
        shares: share of the decisions of each candidate.
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
        chosen = rule.choose_by_part(router.rule_inputs(prompts, predicted), router.costs)
        identity = np.eye(len(router.candidates))
        shares = np.array([rule.expected(chosen, column).mean() for column in identity])
        shares = (1 - explore) * shares + explore / len(shares)
        return cls(
            digest,
            budget,
            list(router.candidates),
            router.costs.tolist(),
            shares.tolist(),
            len(prompts),
            float(predicted.mean()),
            float(predicted.mean(1).std()),
            None if labels is None else float(np.nanstd(labels)),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as a JSON object."""
        return asdict(self)
