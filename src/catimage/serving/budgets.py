"""Live budgets: the lambda of each budget follows the cost of the traffic that counts against it.

The replicas of a service share the state of a budget through the database. Between two exchanges,
each replica moves its own lambda with every image. In an exchange, it adds its images and costs to
the shared sums, and its change of lambda, weighted by its share of the requests since its last
exchange: two replicas that see the same traffic make one step together, not two.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from starlette.concurrency import run_in_threadpool

from catimage.errors import InputError
from catimage.params.serving import ServingParams
from catimage.routing.randomized import RoutingRule
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.messages import JsonObject, RouteRequest, ServingError
from catimage.serving.pacers import Pacer, budget_as_cost, static_rule

if TYPE_CHECKING:
    from catimage.serving.state.budgets import BudgetRow

SERVICE = "service"
"""Name of the budget of the service."""
_LOG = logging.getLogger(__name__)


class BudgetStore(Protocol):
    """The part of :class:`catimage.serving.state.budgets.Budgets` that is used here."""

    def read(self, scope: str) -> BudgetRow | None:
        """Return the state of a budget; None if it was never updated."""

    def update(
        self,
        scope: str,
        requests: float,
        images: float,
        cost: float,
        step: Callable[[BudgetRow], float | BudgetRow],
    ) -> BudgetRow:
        """Add to the sums of a budget and replace its row in one transaction."""


class LiveBudgets:
    """The budgets of the service, of the presets of ``quality``, and of the API keys.

    ========================================= =============================================
    request                                   budget
    ========================================= =============================================
    names a candidate                         none
    has its own ``budget`` or ``lambda``      none
    ``quality`` is a preset                   ``quality:NAME``
    of a key with a budget                    ``key:ID``
    all others                                ``service``
    ========================================= =============================================

    The budget of a key is a limit: if a preset, a budget or a lambda of the request would spend
    more per image, the budget of the key applies instead.

    If the router keeps floors of other metrics, their multipliers stay as they were calibrated, and
    lambda moves: the floors are only met for the calibrated prompts and budget. With a confidence,
    lambda starts at the certified rule.

    Args:
        store: the shared state.
        settings: the section ``serving``.
    """

    def __init__(self, store: BudgetStore, settings: ServingParams) -> None:
        self._store, self._settings = store, settings
        self._lock = Lock()
        self._versions = Versions()
        self._pacers: dict[tuple[str, str], Pacer] = {}
        self._key_budgets: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def use(self, versions: Versions) -> list[str]:
        """Use the budgets for these versions of the router; reads the shared state.

        The budget of a version starts at its calibrated lambda, unless the shared state has a later
        one. Budgets of other versions are discarded.

        Returns:
            Sentences about settings that cannot have an effect, for the log.

        Raises:
            InputError: a budget of the settings is invalid for one of the versions.
        """
        loaded = [v for v in (versions.champion, versions.challenger) if v is not None]
        scopes = [SERVICE, *(f"quality:{name}" for name in self._settings.qualities)]
        pacers, warnings = {}, list[str]()
        for version in loaded:
            for scope in scopes:
                pacer, warning = self._new_pacer(scope, version)
                pacers[scope, version.version] = pacer
                warnings += [warning] if warning else []
        with self._lock:
            self._versions = versions
            self._pacers = pacers
        self.sync(everything=True)
        return list(dict.fromkeys(warnings))

    def scope_of(self, request: RouteRequest) -> str | None:
        """Return the budget that a request counts against; None if no live budget applies."""
        champion, key = self._versions.champion, request.key
        if request.model is not None or champion is None:
            return None
        limit, key_scope = (None, SERVICE) if key is None else (key.budget, f"key:{key.key_id}")
        if key is not None and limit is not None:
            self._key_budgets[key_scope] = limit
        if request.budget is not None or request.lam is not None:
            over = limit is not None and self._exceeds(request, limit, key_scope)
            return key_scope if over else None
        preset = f"quality:{request.quality or 'auto'}"
        if (preset, champion.version) in self._pacers:
            cost = self._pacers[preset, champion.version].pacing.budget
            return preset if limit is None or cost <= limit else key_scope
        return SERVICE if limit is None else key_scope

    def lam(self, scope: str, version: RouterVersion | None = None) -> float:
        """Return the lambda of a budget for a version, by default the champion.

        Raises:
            ServingError: no router is loaded (503).
        """
        return self._pacer(scope, version or self._champion()).lam

    def rule(self, scope: str, version: RouterVersion) -> RoutingRule:
        """Return the current rule of a budget: with ``serving.pace`` that of the live lambda,
        otherwise the calibrated one.
        """
        return self._pacer(scope, version).rule()

    def record(
        self, scope: str | None, cost: float, images: int, version: str | None = None
    ) -> None:
        """Count the cost of a request.

        The sooner the cost is known, the better lambda follows the traffic: record the expected
        cost after the decision, and the difference to the real cost, with 0 images, at the end.

        Args:
            scope: the budget; None if none applies, and nothing is counted.
            cost: total cost of the images, or a correction.
            images: number of images; of a correction 0, or minus those that were not made.
            version: version of the router that decided; by default the champion.
        """
        champion = self._versions.champion
        if scope is None or champion is None:
            return
        pacer = self._pacers.get((scope, version or champion.version))
        if pacer is not None:
            pacer.record(cost, images)

    def sync(self, everything: bool = False) -> None:
        """Exchange the state with the other replicas. It may take as long as the database does.

        If the database cannot be used, the replica continues alone, and the next exchange has
        all that was recorded.

        Args:
            everything: whether budgets of keys that were not used are read too.
        """
        for (scope, version), pacer in list(self._pacers.items()):
            always = everything or not scope.startswith("key:")  # there may be many keys
            try:
                pacer.exchange(self._store, f"{scope} {version}", always)
            except ServingError as error:
                _LOG.warning("budget %s: not shared with other replicas: %s", scope, error.message)

    async def start(self) -> None:
        """Exchange the state every ``serving.refresh_seconds``, until :meth:`close`."""
        self._task = asyncio.create_task(self._sync_forever())

    async def close(self) -> None:
        """Stop, and write what was not written yet."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await run_in_threadpool(self.sync)

    def status(self) -> dict[str, JsonObject]:
        """Return budget, lambda and running mean cost of every budget in use, by name.

        ``mean_cost`` is null before the first image. The budgets are those of the champion.
        """
        champion = self._versions.champion
        return {
            scope: pacer.status()
            for (scope, version), pacer in list(self._pacers.items())
            if champion is not None and version == champion.version
        }

    async def _sync_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_seconds)
            try:
                await run_in_threadpool(self.sync)
            except Exception:  # never end: the next exchange may succeed
                _LOG.exception("the budgets cannot be exchanged")

    def _champion(self) -> RouterVersion:
        champion = self._versions.champion
        if champion is None:
            raise ServingError("budget: no router is loaded. Try again later.", 503, "unavailable")
        return champion

    def _exceeds(self, request: RouteRequest, limit: float, key_scope: str) -> bool:
        """Return whether the budget or lambda of a request spends more than its key may."""
        if request.budget is not None:
            return request.budget > limit
        return request.lam is not None and request.lam < self.lam(key_scope)

    def _pacer(self, scope: str, version: RouterVersion) -> Pacer:
        """Return the controller of a budget; that of a key is created when it is first used."""
        pacer = self._pacers.get((scope, version.version))
        limit = self._key_budgets.get(scope)
        if pacer is None or (limit is not None and limit != pacer.given):
            pacer = self._new_pacer(scope, version)[0]
            with self._lock:
                self._pacers[scope, version.version] = pacer
        return pacer

    def _new_pacer(self, scope: str, version: RouterVersion) -> tuple[Pacer, str]:
        """Return a controller at its calibrated lambda, and a warning or an empty text."""
        router, settings = version.router, self._settings
        name = scope.partition(":")[2]
        if scope.startswith("key:"):
            setting, budget = f"budget of key {name}", str(self._key_budgets[scope])
        elif scope.startswith("quality:"):
            setting, budget = f"serving.qualities.{name}", settings.qualities[name]
        else:
            setting, budget = "serving.budget", settings.budget
        cost, warning = budget_as_cost(budget, setting, router)
        try:
            rule = static_rule(router, cost, settings.pace)
        except InputError as error:
            problem = str(error).removeprefix("budget: ")
            raise InputError(f"{setting}: {problem}") from error
        pacer = Pacer(router, cost, rule, settings.pace, self._key_budgets.get(scope))
        return pacer, warning
