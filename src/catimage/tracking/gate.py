"""The promotion gate, which decides whether a registered router becomes the champion.

The champion is the router in production, the challenger the newest registered router. The
challenger becomes champion if it is not worse than the champion on the same test prompts.

The criterion is the objective of equation 3 of the CATImage paper: the mean of quality minus lambda
times cost, with the challenger's lambda and costs. The challenger is *not worse* if the mean
difference between the routers is at least 0. If the criterion were only that the difference is not
significantly negative, the quality could decrease a little with each retraining.

A champion with another metric, another cost unit or a removed candidate cannot serve the
challenger's pool. Such a champion is replaced without a comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates, Dataset
from catimage.data.missing_labels import complete_rows
from catimage.errors import InputError
from catimage.evaluation.intervals import PairedBootstrap
from catimage.metrics.registry import lower_is_better_metrics
from catimage.params import Params
from catimage.router import Router
from catimage.tracking.client import CHAMPION, MODEL
from catimage.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


TOLERANCE = 1e-12
"""Largest absolute value of a negative mean difference that counts as a rounding error."""


@dataclass(frozen=True)
class GateDecision:
    """The decision of the gate.

    Attributes:
        promoted: whether the challenger becomes champion.
        reason: the reason for the decision in one sentence.
    """

    promoted: bool
    reason: str


def gate_decision(
    client: MlflowClient, version: str, router: Router, workspace: Workspace, params: Params
) -> GateDecision:
    """Decide whether a challenger becomes champion.

    The challenger is compared with the champion on the test split of the workspace. It replaces a
    champion that cannot be loaded by this version of CATImage, because this version cannot serve
    such a champion.

    Args:
        client: a client of the MLflow server.
        version: the model version of the challenger.
        router: the challenger.
        workspace: the workspace with the test prompts and labels.
        params: the parameters of the workspace.

    Raises:
        InputError: the champion's files cannot be read.
    """
    from mlflow.exceptions import MlflowException

    champion = client.get_registered_model(MODEL).aliases.get(CHAMPION)
    if champion is None:
        return GateDecision(True, "there was no champion")
    if str(champion) == str(version):
        return GateDecision(True, "this version is already the champion")
    try:
        champion_router = _load_champion()
    except (MlflowException, OSError) as error:
        raise InputError(
            f"MLflow: version {champion} of {MODEL!r}, the champion, cannot be read ({error})."
            f" Restore its files, or delete the alias {CHAMPION!r}."
        ) from error
    except InputError as error:
        return GateDecision(True, f"the champion cannot be compared: {error}")
    texts, labels = _test_labels(workspace, params, router)
    return compare_routers(champion_router, router, texts, labels)


def _load_champion() -> Router:
    import mlflow

    model = mlflow.pyfunc.load_model(f"models:/{MODEL}@{CHAMPION}")
    router: Router = model.unwrap_python_model().router
    return router


def _test_labels(workspace: Workspace, params: Params, router: Router) -> tuple[list[str], Floats]:
    """Return the test prompts with all labels, and these labels, (n, n_candidates)."""
    lower = lower_is_better_metrics([router.metric], params.label, params.imported)
    data = Dataset.read(workspace, router.cost_unit, lower, params.validation.complete_labels)
    candidates = Candidates(router.candidates, router.costs, router.cost_unit)
    test = data.with_candidates(candidates).split("test")
    labels = test.labels(router.metric)
    rows = complete_rows(labels)
    return test.texts[rows].tolist(), labels[rows]


def compare_routers(
    champion: Router,
    challenger: Router,
    prompts: Sequence[str],
    labels: Floats,
    draws: int = 2000,
    seed: int = 0,
) -> GateDecision:
    """Compare two routers, each with its own calibrated rule, on the same prompts.

    Args:
        champion: the current champion.
        challenger: the new router.
        prompts: the test prompts, (n,).
        labels: labels of the challenger's candidates, (n, n_candidates), higher is better.
        draws: the number of bootstrap resamples for the interval in the reason.
        seed: the seed of the bootstrap.
    """
    if obstacle := _obstacle(champion, challenger):
        reason = f"the champion cannot be compared and cannot serve this pool: {obstacle}"
        return GateDecision(True, reason)
    old_quality, old_cost = _outcome(champion, challenger, prompts, labels)
    quality, cost = _outcome(challenger, challenger, prompts, labels)
    gain = (quality - old_quality) - challenger.lam * (cost - old_cost)
    low, high = PairedBootstrap(len(prompts), draws, seed).interval(gain)
    promoted = bool(gain.mean() >= -TOLERANCE)
    verdict = "not worse" if promoted else "worse"
    reason = (
        f"{verdict} than the champion on {len(prompts)} test prompts:"
        f" {challenger.metric} {quality.mean():.5g} at {cost.mean():.4g} {challenger.cost_unit},"
        f" compared with {old_quality.mean():.5g} at {old_cost.mean():.4g}; the difference with"
        f" lambda {challenger.lam:.4g} is {gain.mean():+.3g} [{low:+.3g}, {high:+.3g}]"
    )
    return GateDecision(promoted, reason)


def _obstacle(champion: Router, challenger: Router) -> str:
    """Return the reason why two routers cannot be compared; empty if they can."""
    if champion.metric != challenger.metric:
        return f"it routes on {champion.metric}, not {challenger.metric}"
    if champion.cost_unit != challenger.cost_unit:
        return f"its costs are in {champion.cost_unit}, not {challenger.cost_unit}"
    removed = [name for name in champion.candidates if name not in challenger.candidates]
    return f"its candidates {', '.join(removed)} are no longer in the pool" if removed else ""


def _outcome(
    router: Router, pool: Router, prompts: Sequence[str], labels: Floats
) -> tuple[Floats, Floats]:
    """Return the quality and the cost of a router's decisions, both (n,).

    Args:
        router: the router that decides.
        pool: the router whose candidates and costs are used.
        prompts: the prompts, (n,).
        labels: labels of the candidates of ``pool``, (n, n_candidates).
    """
    decisions = router.route(prompts)
    chosen = np.array([pool.candidates.index(decision.candidate) for decision in decisions])
    return labels[np.arange(len(prompts)), chosen], pool.costs[chosen]
