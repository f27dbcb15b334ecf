"""The work of one decision: what the batch thread needs to select a candidate for a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from catimage.common.arrays import Floats
from catimage.routing.draws import request_draws
from catimage.routing.randomized import RoutingRule
from catimage.serving.decisions.conditions import Conditions
from catimage.serving.decisions.restrictions import allowed_candidates
from catimage.serving.decisions.scores import CandidatePrices, Choice, choose_candidate
from catimage.serving.decisions.versions import RouterVersion, float16_row
from catimage.serving.messages import Routed, RouteRequest

if TYPE_CHECKING:
    from catimage.encoders.embeddings import Embeddings


@dataclass(frozen=True, eq=False)
class Problem:
    """The choice of one version of the router for one request.

    Attributes:
        version: the version.
        rule: the routing rule.
        prices: the prices of the candidates of this version.
        allowed: positions of the candidates that may answer.
        excluded: the reason of each other candidate.
        explore: probability of a uniformly drawn candidate.
        draw: the uniform random number of the request, in [0, 1).
    """

    version: RouterVersion
    rule: RoutingRule
    prices: CandidatePrices
    allowed: Sequence[int]
    excluded: Mapping[str, str]
    explore: float
    draw: float

    def solve(self, predicted: Floats) -> Choice:
        """Select a candidate by predictions, (1 + n_floors, n_candidates)."""
        return choose_candidate(
            predicted, self.rule, self.prices, self.allowed, self.explore, self.draw
        )


@dataclass(frozen=True, eq=False)
class Task:
    """One request in the batch thread.

    Attributes:
        request: the request.
        scope: the budget that the cost counts against, or None.
        problem: the choice that has an effect.
        shadow: the choice of the challenger that is only reported; None if there is none.
    """

    request: RouteRequest
    scope: str | None
    problem: Problem
    shadow: Problem | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """The predictions of one version for one prompt.

    Attributes:
        qualities: predicted quality, (n_candidates,).
        predicted: input of the routing rule, (1 + n_floors, n_candidates).
        embeddings: the embeddings of the prompts of the batch, if there is an encoder.
        row: position of the prompt in the batch.
    """

    qualities: Floats
    predicted: Floats
    embeddings: Embeddings | None
    row: int


def build_problem(
    request: RouteRequest,
    version: RouterVersion,
    rule: RoutingRule,
    conditions: Conditions,
    explore: float,
) -> Problem:
    """Return the choice of a version for a request.

    Raises:
        ServingError: no candidate may answer, see
            :func:`~catimage.serving.decisions.restrictions.allowed_candidates`.
    """
    names = version.router.candidates
    allowed, excluded = allowed_candidates(request, names, version.costs, conditions)
    seconds = [conditions.priced_seconds(name) for name in names]
    kept = set(allowed)
    return Problem(
        version,
        rule,
        CandidatePrices(list(version.costs.values()), seconds, conditions.pressure),
        [m for m, name in enumerate(names) if name in kept],
        excluded,
        explore,
        float(request_draws([request.prompt], None, [str(request.draw)])[0]),
    )


def routed(task: Task, prediction: Prediction, shadow: str | None) -> Routed:
    """Return the decision for a request.

    Args:
        task: the request and the choice.
        prediction: the predictions of the version that decides.
        shadow: the choice of the challenger.
    """
    choice, names = task.problem.solve(prediction.predicted), task.problem.version.router.candidates
    ranked = tuple(names[m] for m in choice.ranked)
    embeddings, row = prediction.embeddings, prediction.row
    return Routed(
        candidate=ranked[0],
        ranked=ranked,
        qualities=dict(zip(names, prediction.qualities.tolist(), strict=True)),
        costs=task.problem.version.costs,
        propensities=dict(zip(names, choice.propensities, strict=True)),
        excluded=task.problem.excluded,
        lam=choice.lam,
        pressure=task.problem.prices.pressure,
        scope=task.scope,
        router_version=task.problem.version.version,
        shadow=shadow,
        tokens=0 if embeddings is None else int(np.diff(embeddings.offsets[row : row + 2])[0]),
        truncated=embeddings is not None and bool(embeddings.cut[row]),
        embedding=None if embeddings is None else float16_row(embeddings, row),
    )
