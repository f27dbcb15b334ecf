"""Decisions: the candidate of each request, predicted together with all requests that wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from starlette.concurrency import run_in_threadpool

from catimage.data.prompts.cleaning import clean
from catimage.errors import InputError
from catimage.routing.randomized import RoutingRule
from catimage.serving.decisions.conditions import Conditions
from catimage.serving.decisions.fixed import Catalogue
from catimage.serving.decisions.tasks import Prediction, Problem, Task, build_problem, routed
from catimage.serving.decisions.versions import FALLBACK_VERSION, RouterVersion, Versions
from catimage.serving.decisions.worker import BatchWorker
from catimage.serving.messages import Routed, RouteRequest, ServingError

INSTEAD = "the challenger could not decide; the champion decides instead"
_LOG = logging.getLogger(__name__)


class BudgetRules(Protocol):
    """The part of :class:`catimage.serving.budgets.LiveBudgets` that is used here."""

    def scope_of(self, request: RouteRequest) -> str | None:
        """Return the budget that a request counts against; None if it has its own rule."""

    def rule(self, scope: str, version: RouterVersion) -> RoutingRule:
        """Return the current rule of a budget."""


class Decisions:
    """Selects the candidates of requests.

    Predictions run in one thread: all requests that wait are predicted in one call, without
    waiting for more. A request uses the same versions of the router throughout.

    Args:
        catalogue: the candidates of the pool, for requests that name one, and without a router.
        budgets: the live budgets.
        explore: share of the requests for which a candidate is drawn at random.
        versions: the versions of the router in use.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        budgets: BudgetRules,
        explore: float = 0.0,
        versions: Versions | None = None,
    ) -> None:
        self._catalogue, self._budgets, self._explore = catalogue, budgets, explore
        self._versions = versions or Versions()
        self._worker: BatchWorker[Task, Routed] = BatchWorker(_process, "decisions")

    @property
    def versions(self) -> Versions:
        """The versions of the router in use."""
        return self._versions

    def swap(self, versions: Versions) -> None:
        """Use other versions for the requests that arrive from now on.

        Load and warm them up first (:meth:`RouterVersion.warm_up`), and call
        :meth:`catimage.serving.budgets.LiveBudgets.use`.
        """
        self._versions = versions

    def close(self) -> None:
        """Finish the decisions that wait, and stop the thread."""
        self._worker.close()

    async def decide(
        self, requests: Sequence[RouteRequest], conditions: Conditions
    ) -> list[Routed]:
        """Select the candidate of each request.

        Args:
            requests: the requests.
            conditions: the state of the candidates.

        Raises:
            ServingError: a prompt, a budget or a lambda is invalid, or no candidate may answer one
                of the requests.
        """
        start, versions = time.perf_counter(), self._versions
        answers: list[Routed | Task] = [self.begin(r, conditions, versions) for r in requests]
        tasks = [answer for answer in answers if isinstance(answer, Task)]
        decided = iter(await self._decided(tasks, conditions, versions) if tasks else [])
        answers = [
            a if isinstance(a, Task) else await _counted(a, r, versions)
            for a, r in zip(answers, requests, strict=True)
        ]
        seconds = time.perf_counter() - start
        return [
            replace(next(decided) if isinstance(answer, Task) else answer, seconds=seconds)
            for answer in answers
        ]

    def begin(
        self, request: RouteRequest, conditions: Conditions, versions: Versions
    ) -> Routed | Task:
        """Return the decision, or what is left to do in the thread; raises ServingError."""
        check_prompt(request.prompt)
        deciding = versions.deciding(request.request_id)
        if request.model is not None:
            name = deciding.version if deciding else FALLBACK_VERSION
            return self._catalogue.pinned(request, conditions, name)
        if deciding is not None and deciding is versions.challenger:
            try:
                return self._task(request, conditions, versions, deciding)
            except Exception as error:  # such as a size that only the champion's candidates have
                if not isinstance(error, InputError):
                    _LOG.exception(INSTEAD)
                deciding = versions.champion
        if deciding is None:
            return self._catalogue.decide(request, conditions)
        return self._task(request, conditions, versions, deciding)

    def _task(
        self,
        request: RouteRequest,
        conditions: Conditions,
        versions: Versions,
        deciding: RouterVersion,
    ) -> Task:
        scope = self._budgets.scope_of(request)
        shadow = versions.shadowing(deciding)
        return Task(
            request,
            scope,
            self._problem(request, scope, deciding, conditions),
            self._shadow_problem(request, scope, shadow, conditions) if shadow else None,
        )

    async def _decided(
        self, tasks: list[Task], conditions: Conditions, versions: Versions
    ) -> list[Routed]:
        """Return the decisions of the thread; the champion decides what the challenger cannot."""
        champion = versions.champion
        try:
            return await self._worker.submit(tasks)
        except Exception:
            if champion is None or all(task.problem.version is champion for task in tasks):
                raise
            _LOG.exception(INSTEAD)
        alone = Versions(champion)
        again = [self._task(task.request, conditions, alone, champion) for task in tasks]
        return await self._worker.submit(again)

    def _problem(
        self, request: RouteRequest, scope: str | None, version: RouterVersion, state: Conditions
    ) -> Problem:
        if scope is not None:
            rule = self._budgets.rule(scope, version)
        else:
            rule = rule_of_request(request, version)
        return build_problem(request, version, rule, state, self._explore)

    def _shadow_problem(
        self, request: RouteRequest, scope: str | None, version: RouterVersion, state: Conditions
    ) -> Problem | None:
        """Return the choice of the challenger; None if it cannot decide the request."""
        try:
            return self._problem(request, scope, version, state)
        except InputError:  # such as a budget below its cheapest candidate
            return None


async def _counted(routed: Routed, request: RouteRequest, versions: Versions) -> Routed:
    """Return a decision without predictions with the number of tokens of its prompt."""
    version = versions.deciding(request.request_id)
    if version is None or version.encoder is None:
        return routed
    tokens, cut = await run_in_threadpool(version.encoder.count_tokens, [request.prompt])
    return replace(routed, tokens=tokens[0], truncated=cut[0])


def check_prompt(prompt: str) -> None:
    """Raise ServingError if a prompt is empty, is too long, or is not valid Unicode text."""
    try:
        clean(prompt, "prompt")
    except InputError as error:
        raise ServingError(str(error), param="prompt") from error


def rule_of_request(request: RouteRequest, version: RouterVersion) -> RoutingRule:
    """Return the rule of a request with its own budget or lambda.

    Raises:
        ServingError: both are given, or one is invalid.
    """
    try:
        return version.router.rule_for(request.lam, request.budget)
    except InputError as error:
        param = "lambda" if str(error).startswith("lambda") else "budget"
        raise ServingError(str(error), param=param) from error


def _process(tasks: list[Task]) -> list[Routed]:
    """Decide a batch; every version predicts its prompts in one call."""
    decided = _predictions([(task, task.problem) for task in tasks])
    shadows = _shadow_choices(tasks)
    return [
        routed(task, prediction, shadow)
        for task, prediction, shadow in zip(tasks, decided, shadows, strict=True)
    ]


def _shadow_choices(tasks: list[Task]) -> list[str | None]:
    """Return the choice of the challenger for each task; a failure is only logged."""
    with_shadow = [(task, task.shadow) for task in tasks if task.shadow is not None]
    if not with_shadow:
        return [None] * len(tasks)
    try:
        predictions = iter(_predictions(with_shadow))
        return [
            task.shadow.version.router.candidates[
                task.shadow.solve(next(predictions).predicted).ranked[0]
            ]
            if task.shadow is not None
            else None
            for task in tasks
        ]
    except Exception:
        _LOG.exception("the challenger could not decide; the champion is not affected")
        return [None] * len(tasks)


def _predictions(work: Sequence[tuple[Task, Problem]]) -> list[Prediction]:
    """Return the predictions of each problem; one call per version."""
    found: dict[int, Prediction] = {}
    for version in _distinct(problem.version for _, problem in work):
        rows = [i for i, (_, problem) in enumerate(work) if problem.version is version]
        prompts = [work[i][0].request.prompt for i in rows]
        qualities, predicted, embeddings = version.predict(prompts)
        for row, i in enumerate(rows):
            found[i] = Prediction(qualities[row], predicted[:, row], embeddings, row)
    return [found[i] for i in range(len(work))]


def _distinct(versions: Iterable[RouterVersion]) -> list[RouterVersion]:
    return list({id(version): version for version in versions}.values())
