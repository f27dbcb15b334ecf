"""The decision about a registered router, and its promotion to champion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from catimage.data.dataset import Candidates, Dataset
from catimage.data.missing_labels import complete_rows
from catimage.errors import InputError, OutageError
from catimage.metrics.registry import lower_is_better_metrics
from catimage.params import Params
from catimage.router import Router
from catimage.tracking.champions import set_champion
from catimage.tracking.client import CHAMPION, MODEL
from catimage.tracking.gate import GateDecision, budget_excess, compare_routers
from catimage.tracking.lock import ConflictError
from catimage.tracking.objective import GateSample
from catimage.tracking.overhead import excess, measure
from catimage.tracking.versions import (
    REFERENCE_TAG,
    load_router,
    reference_of,
    version_with_alias,
)
from catimage.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ATTEMPTS = 5
"""Number of decisions about a version, if other processes change the champion at the same time."""


@dataclass(frozen=True)
class Promotion:
    """A decision of the gate, and the versions that it is about.

    Attributes:
        decision: the decision.
        champion: the version of the champion at the time of the decision, or None.
        reference: the version of the reference after the promotion; None for the challenger.
    """

    decision: GateDecision
    champion: str | None = None
    reference: str | None = None


def decide(
    client: MlflowClient, version: str | None, router: Router, workspace: Workspace, params: Params
) -> Promotion:
    """Decide whether a challenger becomes champion; nothing is written.

    The first router is promoted. A champion that cannot be read is never replaced automatically:
    the decision is negative, and its reason says how to proceed.

    Args:
        client: a client of the MLflow server.
        version: the model version of the challenger, or None if it has not been registered.
        router: the challenger.
        workspace: the workspace with the gate prompts and labels.
        params: the parameters of the workspace.

    Raises:
        OutageError: the storage of the champion does not respond.
    """
    champion = version_with_alias(client, CHAMPION)
    if champion is None:
        return Promotion(GateDecision(True, "there was no champion"))
    reference = reference_of(client, champion)
    if champion == version:
        return Promotion(
            GateDecision(True, "this version is already the champion"), champion, reference
        )
    try:
        champion_router, fixed = _compared_routers(champion, reference)
    except OutageError:
        raise
    except InputError as error:
        return Promotion(GateDecision(False, _unreadable(error), blocked=True), champion)
    sample = gate_sample(workspace, params, router)
    decision = compare_routers(champion_router, router, sample, params.promote, fixed)
    if decision.promoted and decision.compared:
        decision = _within_limits(decision, champion_router, router, sample, params)
    references = {"challenger": None, "champion": champion, "reference": reference}
    return Promotion(decision, champion, references[decision.reference])


def _within_limits(
    decision: GateDecision, champion: Router, router: Router, sample: GateSample, params: Params
) -> GateDecision:
    """Return the decision, or a negative one if the challenger is too expensive, slow or large."""
    old, new = measure([champion, router], sample.prompts)
    problem = budget_excess(router, sample, params.promote) or excess(old, new, params.promote)
    if not problem:
        return decision
    return replace(decision, promoted=False, reason=f"{problem}. It is {decision.reason}")


def _compared_routers(champion: str, reference: str) -> tuple[Router, Router | None]:
    """Load the champion, and its reference if it is another version.

    Raises:
        InputError: one of them cannot be read.
    """
    remove = f"delete_registered_model_alias('{MODEL}', '{CHAMPION}')"
    router = load_router(champion, "champion", remove)
    remove = f"delete_model_version_tag('{MODEL}', '{champion}', '{REFERENCE_TAG}')"
    return router, None if reference == champion else load_router(reference, "reference", remove)


def _unreadable(error: InputError) -> str:
    """Return the reason why a challenger is not compared with the champion."""
    return (
        f"the champion cannot be compared, so it is not replaced automatically: {error} To replace"
        " it without a comparison, run 'catimage promote --challenger --force REASON'"
    )


def gated_promotion(
    client: MlflowClient, version: str, workspace: Workspace, params: Params, force: str | None
) -> Promotion:
    """Return the decision about a registered version, which is positive.

    Args:
        client: a client of the MLflow server.
        version: the version.
        workspace: the workspace with the gate prompts and labels.
        params: the parameters of the workspace.
        force: the reason to promote the version although the gate does not; None for no promotion.

    Raises:
        InputError: the gate does not promote the version and ``force`` is None, or the version
            cannot be read.
    """
    router = load_router(version, "challenger", f"get_model_version('{MODEL}', '{version}')")
    promotion = decide(client, version, router, workspace, params)
    reason = promotion.decision.reason
    if promotion.decision.promoted:
        return promotion
    if force is None:
        raise InputError(
            f"version {version}: the gate does not promote it ({reason.rstrip('.')}). Improve the"
            " router, or give a reason with --force."
        )
    forced = GateDecision(True, f"forced ({force}); the gate: {reason}")
    return Promotion(forced, promotion.champion)


def gate_sample(workspace: Workspace, params: Params, router: Router) -> GateSample:
    """Return the gate prompts that have all labels of the router's metrics and candidates.

    Without gate prompts, the sample is empty.
    """
    metrics = [router.metric, *router.floors]
    lower = lower_is_better_metrics(metrics, params.label, params.imported)
    data = Dataset.read(workspace, router.cost_unit, lower, params.validation.complete_labels)
    if not (data.prompts["split"] == "gate").any():
        return GateSample([], np.zeros((len(metrics), 0, len(router.candidates))), lower)
    candidates = Candidates(router.candidates, router.costs, router.cost_unit)
    gate = data.with_candidates(candidates).split("gate")
    labels = np.stack([gate.labels(metric) for metric in metrics])
    rows = complete_rows(np.concatenate(list(labels), axis=1))
    return GateSample(gate.texts[rows].tolist(), labels[:, rows], lower)


def record_decision(client: MlflowClient, version: str, promotion: Promotion) -> None:
    """Record the reason of a decision on the version."""
    client.set_model_version_tag(MODEL, version, "gate", promotion.decision.reason)


def promote(client: MlflowClient, version: str, promotion: Promotion) -> None:
    """Record the decision, and move the alias ``champion`` if the decision is to promote.

    The alias is moved last: if the process is killed before, the champion is unchanged. The
    previous champions are recorded (:mod:`catimage.tracking.champions`).

    Raises:
        ConflictError: another process has moved the alias in the meantime.
    """
    record_decision(client, version, promotion)
    if not promotion.decision.promoted or promotion.champion == version:
        return
    reference = promotion.reference or version
    client.set_model_version_tag(MODEL, version, REFERENCE_TAG, reference)
    set_champion(client, version, promotion.champion)


def settle(
    client: MlflowClient,
    version: str,
    promotion: Promotion,
    decide_again: Callable[[], Promotion],
    held: bool = False,
) -> Promotion:
    """Record and apply a decision, and decide again if another process changes the champion.

    Args:
        client: a client of the MLflow server.
        version: the version that the decision is about.
        promotion: the decision.
        decide_again: decides about the version and the present champion.
        held: whether the decision is only recorded, and the champion stays.

    Returns:
        The decision that was applied.

    Raises:
        ConflictError: other processes have changed the champion :data:`ATTEMPTS` times.
    """
    for attempt in range(1, ATTEMPTS + 1):
        if version_with_alias(client, CHAMPION) != promotion.champion:
            promotion = decide_again()
        try:
            (record_decision if held else promote)(client, version, promotion)
            break
        except ConflictError:
            if attempt == ATTEMPTS:
                raise
    return promotion
