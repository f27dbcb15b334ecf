"""The controller of one budget in one replica, and its exchange with the shared state."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from catimage.errors import InputError
from catimage.routing.curve import BUDGET_TOLERANCE
from catimage.routing.pacing import REACTION, PaceState, Pacing
from catimage.routing.randomized import RoutingRule, check_budget, rule_within
from catimage.serving.messages import JsonObject

if TYPE_CHECKING:
    from catimage.router import Router
    from catimage.serving.state.budgets import BudgetRow


class Pacer:
    """The controller of one budget for one version of the router. Threads may share it.

    Args:
        router: the router.
        budget: mean cost per image to keep.
        rule: the calibrated rule, where lambda starts.
        live: whether lambda follows the costs; otherwise they are only counted.
        given: the budget of an API key as it was given; None for other budgets.

    Attributes:
        state: lambda and the discounted sums in this replica.
    """

    def __init__(
        self,
        router: Router,
        budget: float,
        rule: RoutingRule,
        live: bool = True,
        given: float | None = None,
    ) -> None:
        start = float(rule.share @ rule.lam)
        costs = (float(router.costs.min()), float(router.costs.max()))
        self.pacing = Pacing.calibrated(router.curve, budget, start, costs)
        self.given, self._static, self._live = given, rule, live
        self._multipliers = (rule.share @ rule.multipliers)[None]
        self.state = self.pacing.initial()
        self._shared = self.state
        """The state after the last exchange."""
        self._pending = np.zeros(3)
        """Requests, images and cost since the last exchange."""
        self._requests, self._reaction = 0.0, REACTION
        """Requests of all replicas until the last exchange; images that compensate a change."""
        self._used, self._lock = False, Lock()

    @property
    def lam(self) -> float:
        """The lambda of the next request; the mean of the calibrated rule if it does not move."""
        return self.state.lam if self._live else self.pacing.start

    def rule(self) -> RoutingRule:
        """Return the rule of the live lambda, or the calibrated rule."""
        self._used = True
        if not self._live:
            return self._static
        return RoutingRule(np.ones(1), np.array([self.state.lam]), self._multipliers)

    def record(self, cost: float, images: int) -> None:
        """Count the cost of a request, or a correction with 0 or fewer images."""
        with self._lock:
            self._pending += (float(images > 0), images, cost)
            self.state = self.pacing.update(self.state, cost, images, self._reaction)

    def status(self) -> JsonObject:
        """Return the budget, lambda and the running mean cost; None before the first image."""
        state = self.state
        mean = float(state.cost / state.images) if state.images > 0.5 else None
        return {"budget": self.pacing.budget, "lambda": self.lam, "mean_cost": mean}

    def exchange(self, store: Any, name: str, always: bool) -> None:
        """Add what this replica recorded to the shared row, and take over the row.

        Args:
            store: the table, :class:`catimage.serving.state.budgets.Budgets`.
            name: name of the row.
            always: whether the row is read although the budget was not used.

        Raises:
            ServingError: the database cannot be used; nothing was exchanged.
        """
        with self._lock:
            if not (self._used or always or self._pending.any()):
                return
            self._used, local = False, self.state
            requests, images, cost = sent = self._pending.copy()
        if not sent.any():
            row = store.read(name)
            if row is not None:
                self._take_over(row, local, sent)
            return

        def step(row: BudgetRow) -> BudgetRow:
            share = requests / max(row.requests - self._requests, requests, 1.0)
            return self._merged(row, sent, local, share)

        self._take_over(store.update(name, requests, images, cost, step), local, sent)

    def _merged(
        self, row: BudgetRow, sent: np.ndarray, local: PaceState, share: float
    ) -> BudgetRow:
        """Return the row after an exchange.

        Args:
            row: the row, whose sums include those of this replica.
            sent: requests, images and cost of this replica.
            local: the state of this replica.
            share: share of this replica in the requests since its last exchange.
        """
        pacing = self.pacing
        old = PaceState(0.0, row.images - sent[1], row.cost - sent[2])
        change = pacing.position(local.lam) - pacing.position(self._shared.lam)
        lam = pacing.moved(pacing.start if row.lam is None else row.lam, share * change)
        new = old.added(lam, float(sent[1]), float(sent[2]))
        return replace(row, lam=new.lam, images=new.images, cost=new.cost)

    def _take_over(self, row: BudgetRow, local: PaceState, sent: np.ndarray) -> None:
        """Continue from the shared row, with what was recorded during the exchange."""
        with self._lock:
            others = row.requests - self._requests - sent[0]
            self._reaction = max(REACTION, others) if self._requests else REACTION
            self._pending -= sent
            change = self.pacing.position(self.state.lam) - self.pacing.position(local.lam)
            shared = PaceState(
                self.pacing.start if row.lam is None else row.lam, row.images, row.cost
            )
            self._requests, self._shared = row.requests, shared
            self.state = shared.added(
                self.pacing.moved(shared.lam, change),
                float(self._pending[1]),
                float(self._pending[2]),
            )


def budget_as_cost(budget: str, setting: str, router: Router) -> tuple[float, str]:
    """Return a budget of the settings as a mean cost per image.

    A percentage or the budget of a key that is below the cost of the cheapest candidate is raised
    to that cost.

    Args:
        budget: a cost, a percentage of the cost of the most expensive candidate, or an empty text
            for the budget of the router.
        setting: name of the setting, for messages.
        router: the router.

    Returns:
        The cost, and a warning if the budget was raised.

    Raises:
        InputError: the budget is neither a number nor a percentage, or is a cost below that of the
            cheapest candidate.
    """
    text = budget.strip()
    if not text:
        return router.budget, ""
    cheapest, unit = float(router.costs.min()), router.cost_unit
    try:
        percent = float(text.removesuffix("%")) / 100 if text.endswith("%") else None
        cost = float(text) if percent is None else percent * float(router.costs.max())
    except ValueError as error:
        raise InputError(
            f"{setting}: {budget!r} is not a budget. Write a cost in {unit} or a percentage such as"
            " 40%."
        ) from error
    if cost < cheapest and (percent is not None or setting.startswith("budget of key")):
        return cheapest, (
            f"{setting}: {budget} is {cost:.4g} {unit}, less than the cheapest candidate costs."
            f" Every request gets that candidate, at {cheapest:.4g} {unit}."
        )
    try:
        return check_budget(cost, cheapest), ""
    except InputError as error:
        raise InputError(f"{setting}: {str(error).removeprefix('budget: ')}") from error


def static_rule(router: Router, budget: float, pace: bool) -> RoutingRule:
    """Return the calibrated rule for a budget.

    With pacing, a router with floors has a rule for every budget: the lambda that its curve has for
    the budget, with the multipliers of its calibrated rule.

    Raises:
        InputError: the router has no rule for the budget.
    """
    near = abs(budget - router.budget) <= BUDGET_TOLERANCE * router.budget
    if near or not router.floors or not pace:
        return router.rule_for(budget=router.budget if near else budget)
    rule = rule_within(router.curve, budget, router.costs, router.mix)[0]
    return router.rule_for(lam=float(rule.share @ rule.lam))
