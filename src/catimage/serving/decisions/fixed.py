"""Decisions without a router: a candidate that the client named, or the fallback candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from catimage.errors import InputError, nearest
from catimage.serving.decisions.conditions import Conditions
from catimage.serving.decisions.restrictions import allowed_candidates
from catimage.serving.decisions.versions import FALLBACK_VERSION
from catimage.serving.messages import Routed, RouteRequest, ServingError


@dataclass(frozen=True)
class Catalogue:
    """The candidates of the pool, which can answer without a router.

    Attributes:
        costs: cost of one image of each candidate of the pool, by name.
        fallback: the candidate that answers if no router is loaded; the cheapest one if empty.

    Raises:
        InputError: the pool has no candidate, or no candidate ``fallback``.
    """

    costs: Mapping[str, float]
    fallback: str = ""

    def __post_init__(self) -> None:
        if not self.costs:
            raise InputError("pool: it has no candidates. Add at least one.")
        if self.fallback and self.fallback not in self.costs:
            raise InputError(
                f"serving.fallback: the pool has no candidate {self.fallback!r}"
                f"{nearest(self.fallback, list(self.costs))}. Use one of {', '.join(self.costs)}."
            )

    def decide(self, request: RouteRequest, conditions: Conditions) -> Routed:
        """Return the fallback candidate, or the cheapest one that can answer if it cannot.

        Raises:
            ServingError: no candidate may answer.
        """
        by_cost = sorted(self.costs, key=lambda name: self.costs[name])
        first = self.fallback or by_cost[0]
        order = [first, *(name for name in by_cost if name != first)]
        allowed, excluded = allowed_candidates(request, order, self.costs, conditions)
        return self._routed(tuple(allowed), excluded, FALLBACK_VERSION)

    def pinned(self, request: RouteRequest, conditions: Conditions, version: str) -> Routed:
        """Return the candidate that the request names.

        Args:
            request: the request, whose ``model`` is set.
            conditions: the state of the candidates.
            version: the version of the router in use.

        Raises:
            ServingError: there is no such candidate (404), or it cannot answer.
        """
        name = request.model or ""
        if name not in self.costs:
            raise ServingError(
                f"model: there is no model {name!r}{nearest(name, list(self.costs))}. Use 'auto'"
                f" or one of {', '.join(self.costs)}.",
                status=404,
                code="model_not_found",
                param="model",
            )
        allowed, excluded = allowed_candidates(request, [name], self.costs, conditions)
        return self._routed(tuple(allowed), excluded, version)

    def _routed(self, ranked: tuple[str, ...], excluded: Mapping[str, str], version: str) -> Routed:
        return Routed(
            candidate=ranked[0],
            ranked=ranked,
            qualities={},
            costs=self.costs,
            propensities={name: float(name == ranked[0]) for name in self.costs},
            excluded=excluded,
            router_version=version,
        )
