"""The content of ``reports/off_policy.json``: the router on logged decisions of the service."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.prompts.identity import folded
from catimage.evaluation.off_policy.estimators import (
    LoggedTraffic,
    doubly_robust,
    effective_sample_size,
    ips,
    mean_terms,
    self_normalized_ips,
)
from catimage.evaluation.off_policy.intervals import ClusterBootstrap
from catimage.evaluation.off_policy.support import has_support, selection_problem
from catimage.params import EvaluateParams
from catimage.router import Router

INTERVAL = "95%, studentised bootstrap (inverse propensity) or normal (others), over prompts"
MIN_EFFECTIVE = 50
"""Effective number of requests below which there are no estimates: no interval is reliable then."""
OTHER_METRIC, OTHER_UNIT = "scored by another metric", "costs in another unit"
NO_SUPPORT = "a candidate of the router could not be selected (propensity 0)"
TRAINING_PROMPT = "the prompt is in the train or validation split"
EXPLORE = (
    "In none of the logged decisions could every candidate of the router be selected: the"
    " propensities have no support. Set serving.explore above 0, and wait for new traffic."
)
ALL_LEFT_OUT = "None of the logged outcomes can be used."


def off_policy_document(
    router: Router,
    outcomes: pd.DataFrame,
    seen: Collection[str],
    lower_is_better: bool,
    settings: EvaluateParams,
) -> dict[str, Any] | None:
    """Estimate the mean quality and cost of a router on logged traffic.

    Requests for prompts that the router was fitted to are left out.

    Args:
        router: the router, with its calibrated rule and without the pacing of the service.
        outcomes: rows of :data:`~catimage.data.traffic.OUTCOMES`.
        seen: the prompts of the train and validation splits.
        lower_is_better: whether low scores of the metric are good; the scores are then negated.
        settings: the section ``evaluate`` of ``params.yaml``, for the bootstrap.

    Returns:
        The document; None without logged outcomes.
    """
    if outcomes.empty:
        return None
    names = [*router.candidates, *sorted({*outcomes["candidate"]} - {*router.candidates})]
    propensities = _propensities(outcomes, names)
    usable, left_out = _usable(router, outcomes, propensities, seen)
    rows = outcomes.iloc[usable]
    head = {
        "metric": router.metric,
        "cost_unit": router.cost_unit,
        "requests": len(rows),
        "left_out": left_out,
    }
    if rows.empty:
        reason = EXPLORE if left_out.get(NO_SUPPORT) else ALL_LEFT_OUT
        return head | {"reason": reason, "challenger": None}
    traffic = _decisions(router, rows, propensities[usable], names)
    if problem := selection_problem(traffic[0], names) or _too_few(traffic[0]):
        return head | {"reason": problem, "challenger": None}
    return head | {"reason": None} | _figures(rows, traffic, lower_is_better, settings)


def _figures(
    rows: pd.DataFrame,
    traffic: tuple[LoggedTraffic, Floats, Floats],
    lower_is_better: bool,
    settings: EvaluateParams,
) -> dict[str, Any]:
    """Return the estimates from the outcomes and the values of :func:`_decisions`."""
    decisions, predicted, costs = traffic
    scores = rows["score"].to_numpy(float) * (-1.0 if lower_is_better else 1.0)
    measured = {"quality": (scores, predicted), "cost": (rows["cost"].to_numpy(float), costs)}
    return _period(rows) | _estimates(decisions, measured, _bootstrap(rows, settings))


def _bootstrap(rows: pd.DataFrame, settings: EvaluateParams) -> ClusterBootstrap:
    """Return resamples of the prompts of requests."""
    prompts = pd.factorize(rows["prompt_id"])[0].astype(np.int64)
    return ClusterBootstrap(prompts, settings.bootstrap, settings.seed)


def _propensities(outcomes: pd.DataFrame, names: list[str]) -> Floats:
    """Return the propensities of candidates, 0 for those that a decision does not list."""
    rows = [[logged.get(name, 0.0) for name in names] for logged in outcomes["propensities"]]
    return np.array(rows, np.float64).reshape(len(outcomes), len(names))


def _usable(
    router: Router, outcomes: pd.DataFrame, propensities: Floats, seen: Collection[str]
) -> tuple[np.ndarray, dict[str, int]]:
    """Return the positions of the outcomes that can be used, and the numbers of the others."""
    used = {folded(prompt) for prompt in seen}
    reasons = {
        OTHER_METRIC: outcomes["metric"].to_numpy() != router.metric,
        OTHER_UNIT: outcomes["unit"].to_numpy() != router.cost_unit,
        NO_SUPPORT: ~has_support(propensities[:, : len(router.candidates)]),
        TRAINING_PROMPT: np.array([folded(p) in used for p in outcomes["prompt"]], bool),
    }
    kept, left_out = np.ones(len(outcomes), bool), {}
    for reason, applies in reasons.items():
        if count := int((kept & applies).sum()):
            left_out[reason] = count
        kept &= ~applies
    return np.flatnonzero(kept), left_out


def _decisions(
    router: Router, rows: pd.DataFrame, propensities: Floats, names: list[str]
) -> tuple[LoggedTraffic, Floats, Floats]:
    """Return the decisions, and the predicted quality and the cost of each candidate.

    Returns:
        The decisions, the predictions (n, n_names) and the costs (n, n_names). The probability of
        candidates that the router does not have is 0, so that their predictions are not used.
    """
    texts = rows["prompt"].tolist()
    predicted = router.predict(texts)
    by_part = router.rule.choose_by_part(router.rule_inputs(texts, predicted), router.costs)
    target = np.zeros_like(predicted)
    for share, chosen in zip(router.rule.share.tolist(), by_part, strict=True):
        target[np.arange(len(texts)), chosen] += share
    actions = pd.Index(names).get_indexer(pd.Index(rows["candidate"])).astype(np.int64)
    added = ((0, 0), (0, len(names) - len(router.candidates)))
    costs = np.broadcast_to(router.costs, predicted.shape)
    decisions = LoggedTraffic(propensities, actions, np.pad(target, added))
    return decisions, np.pad(predicted, added), np.pad(costs, added)


def _too_few(decisions: LoggedTraffic) -> str | None:
    """Return a sentence if the weights are too unequal; None otherwise."""
    size = effective_sample_size(decisions.weights)
    if size >= MIN_EFFECTIVE:
        return None
    return (
        f"The {len(decisions):,} scored requests are worth {size:.0f} equally weighted ones for"
        f" this router, fewer than {MIN_EFFECTIVE}. Wait for more, or raise serving.explore."
    )


def _period(rows: pd.DataFrame) -> dict[str, Any]:
    times = rows["time"]
    return {
        "first": times.min().isoformat(),
        "last": times.max().isoformat(),
        "prompts": int(rows["prompt_id"].nunique()),
    }


def _estimates(
    decisions: LoggedTraffic,
    measured: dict[str, tuple[Floats, Floats]],
    bootstrap: ClusterBootstrap,
) -> dict[str, Any]:
    """Return the estimates of quality and cost by every method, and diagnostics of the weights."""
    weights = decisions.weights
    terms = {
        name: {
            "logged": mean_terms(values),
            "ips": ips(decisions, values),
            "self_normalized_ips": self_normalized_ips(decisions, values),
            "doubly_robust": doubly_robust(decisions, values, predicted),
        }
        for name, (values, predicted) in measured.items()
    }
    rows: dict[str, dict[str, Any]] = {}
    for name, by_method in terms.items():
        gain = by_method["doubly_robust"].numerator - measured[name][0]
        for method, ratio in {**by_method, "gain": mean_terms(gain)}.items():
            estimate = bootstrap.estimate(ratio, studentised=method.endswith("ips"))
            rows.setdefault(method, {})[name] = estimate.to_document()
    return {
        "interval": INTERVAL,
        "effective_sample_size": effective_sample_size(weights),
        "largest_weight": float(weights.max()),
        "mean_weight": bootstrap.estimate(mean_terms(weights), studentised=True).to_document(),
        "logged": rows.pop("logged"),
        "gain": rows.pop("gain"),
        "challenger": rows,
    }
