"""The checks of the decision log: prompts, streams, decisions and cost.

Each takes the state that it left in the last run (empty at the start) and rows in order of time,
and returns an :class:`~catimage.monitoring.outcome.CheckOutcome`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from catimage.common.arrays import Float32, Floats
from catimage.monitoring.expected import Expected
from catimage.monitoring.mean_drift import bet, running_mean
from catimage.monitoring.outcome import CheckOutcome, evidence_share
from catimage.monitoring.prompt_drift import PromptDrift
from catimage.monitoring.reference import Reference
from catimage.monitoring.streams import detect_change
from catimage.params import MonitorParams

SERVICE = "service"
"""The budget of the service. Other budgets, and requests that name a candidate, a budget or a
lambda, are not compared with the router's calibration."""
STANDARD_ERRORS = 2.0
"""Number of standard errors of an expected share that is added to ``decisions.max_change``."""
_PRICE_RANGE = 0.25
"""Range of changes of the cost of an image, as shares of it; larger changes are clipped."""
_QUALITY_RANGE = 8.0
"""Range of predicted qualities in a stream, in standard deviations over prompts."""


def check_prompts(
    state: dict[str, Any],
    reference: Reference,
    points: Float32,
    settings: MonitorParams,
    repeated: int = 0,
) -> CheckOutcome:
    """Test whether the prompts differ from the training prompts by more than the baseline.

    Args:
        state: the state of the last run.
        reference: the training prompts.
        points: coordinates of the new prompts, (n_prompts, n_coordinates).
        settings: the section ``monitor``.
        repeated: number of requests that do not count, for the message.
    """
    width = reference.points.shape[1]
    drift = PromptDrift.from_json(state["drift"]) if state else PromptDrift.start(width)
    drift, ranks = drift.update(reference, points[None], settings.prompts)
    auc = running_mean(state.get("auc"), ranks)
    limit = float(drift.limit(settings.prompts)[0])
    evidence = evidence_share(float(drift.evidence[0]), settings.threshold(settings.max_requests))
    missing = max(settings.prompts.baseline_prompts - drift.count, 0)
    message = (
        f"AUC of recent against training prompts {_first(auc, absent='no new prompts')},"
        f" limit {limit:.2f}"
        f"{f' (until {missing:,} more prompts give the baseline)' if missing else ''}."
    )
    if repeated:
        message += f" {repeated:,} requests with training or recent prompts do not count."
    kept = {"drift": drift.to_json(), "auc": auc}
    details = {
        "auc": auc[0] if auc else None,
        "limit": limit,
        "baseline_missing": missing,
        "repeated": repeated,
    }
    restarted = {**kept, "drift": drift.restarted().to_json()}
    return CheckOutcome(kept, restarted, evidence, len(points), message, details)


def check_streams(
    state: dict[str, Any], streams: dict[str, list[float]], settings: MonitorParams
) -> CheckOutcome:
    """Test whether the mean of a stream changed, compared with earlier traffic.

    Args:
        state: the state of the last run.
        streams: new values between 0 and 1 of each stream, by name.
        settings: the section ``monitor``.

    Raises:
        InputError: river is not installed.
    """
    changes = {
        name: detect_change(state.get(name, []), values, settings.streams)
        for name, values in streams.items()
    }
    detected = [name for name, change in changes.items() if change.detected]
    means = [f"{name} {change.after:.2f}" for name, change in changes.items() if change.values]
    message = f"no change of the streams (means: {', '.join(means) or 'no requests'})."
    if detected:
        message = "changed: " + ", ".join(
            f"{name}, mean from {changes[name].before:.2f} to {changes[name].after:.2f}"
            for name in detected
        )
        message += "."
    kept = state | {name: change.values for name, change in changes.items()}
    count = max((len(values) for values in streams.values()), default=0)
    return CheckOutcome(kept, kept, float(bool(detected)), count, message, {"changed": detected})


def quality_stream(rows: pd.DataFrame, expected: Expected) -> list[float]:
    """Return the mean predicted quality of all candidates for each request, scaled to [0, 1].

    It does not depend on lambda. 0.5 is the mean of the router's validation and test prompts.
    """
    spread = max(expected.quality_spread, 1e-12) * _QUALITY_RANGE
    means = [np.mean(list(q.values())) for q in rows["qualities"] if q]
    scaled = np.clip((np.array(means, float) - expected.quality) / spread + 0.5, 0, 1)
    return [float(value) for value in scaled[np.isfinite(scaled)]]


def check_decisions(
    state: dict[str, Any], rows: pd.DataFrame, expected: Expected, settings: MonitorParams
) -> CheckOutcome:
    """Test whether a candidate's share of the decisions differs from its expected share.

    The expected share of a request is that at its lambda, which the pacing of the service moves all
    the time to keep the budget. Decisions under load, where other candidates are preferred, do not
    count.

    Args:
        state: the state of the last run.
        rows: rows of the decision log that count against the budget of the service.
        expected: the expected decisions.
        settings: the section ``monitor``.
    """
    names = expected.candidates
    rows = rows[rows["lambda"].notna() & ~(rows["pressure"].astype(float) > 0)]
    decided = rows["candidate"].to_numpy(object)
    chosen = np.array([decided == name for name in names], float)
    shares = expected.shares_at(rows["lambda"].to_numpy(float)).T
    error = STANDARD_ERRORS * np.sqrt(shares * (1 - shares) / expected.prompts)
    slack = settings.decisions.max_change + error
    detectors, fresh, evidence = bet(
        state.get("detectors"),
        np.concatenate([chosen, 1 - chosen]),
        np.concatenate([shares + slack, 1 - shares + slack]),
    )
    recent = running_mean(state.get("recent"), np.concatenate([chosen, shares]))
    means = np.reshape(recent, (2, -1))
    message, details = _share_message(names, means, settings), _share_details(names, means)
    kept = {"detectors": detectors, "recent": recent}
    evidence = evidence_share(evidence, settings.threshold(settings.max_requests))
    return CheckOutcome(kept, {**kept, "detectors": fresh}, evidence, len(rows), message, details)


def _share_message(names: list[str], means: Floats, settings: MonitorParams) -> str:
    """Return a sentence on recent and expected shares, (2, n_candidates), or (2, 0) for none."""
    if not means.size:
        return "no requests against the budget of the service."
    far = int(np.argmax(np.abs(means[0] - means[1])))
    return (
        f"largest change of a share: {names[far]} {means[0, far]:.0%}, expected"
        f" {means[1, far]:.0%}, limit {settings.decisions.max_change:.0%} of all decisions."
    )


def _share_details(names: list[str], means: Floats) -> dict[str, Any]:
    pairs = zip(("shares", "expected"), means.tolist(), strict=True)
    return {key: dict(zip(names, row, strict=False)) for key, row in pairs}


def check_cost(
    state: dict[str, Any], rows: pd.DataFrame, expected: Expected, settings: MonitorParams
) -> CheckOutcome:
    """Test whether the mean cost per image exceeds the budget, and whether images cost more or less
    than the router assumes. The pacing of the service keeps the budget although a price changed.

    Args:
        state: the state of the last run.
        rows: rows of the decision log that count against the budget of the service.
        expected: the budget, and the costs of the candidates.
        settings: the section ``monitor``.
    """
    highest, excess = max(expected.costs), settings.cost.max_excess
    costs, planned = image_costs(rows, expected)
    limit, reach = expected.budget * (1 + excess), max(_PRICE_RANGE, 5 * excess)
    changes = costs / planned - 1
    scaled = (np.clip(changes / reach, -1, 1) + 1) / 2
    bound = (excess / reach + 1) / 2
    detectors, fresh, evidence = bet(
        state.get("detectors"),
        np.stack([np.clip(costs / highest, 0, 1), scaled, 1 - scaled]),
        [limit / highest, bound, bound],
    )
    recent = running_mean(state.get("recent"), np.stack([costs, changes]))
    mean, change = recent or (None, None)
    message = f"mean cost per image {_first(recent, '.4g')}, budget {expected.budget:.4g}."
    if limit >= highest:
        message = "the budget covers the most expensive candidate, so it cannot be exceeded."
    if change is not None and abs(change) > excess:
        message += f" Images cost {change:+.0%} compared with the costs of the router."
    details = {"mean": mean, "change": change, "budget": expected.budget, "limit": limit}
    kept = {"detectors": detectors, "recent": recent}
    evidence = evidence_share(evidence, settings.threshold(settings.max_requests))
    return CheckOutcome(kept, {**kept, "detectors": fresh}, evidence, len(costs), message, details)


def image_costs(rows: pd.DataFrame, expected: Expected) -> tuple[Floats, Floats]:
    """Return the cost per image of each request, and that of its decision by the router's costs.

    A request without images has the cost of its decision. Requests that failed, and candidates that
    the router does not know, are left out.
    """
    known = dict(zip(expected.candidates, expected.costs, strict=True))
    planned = rows["candidate"].map(known).astype(float)
    paid = rows["cost"].astype(float) / rows["images"].where(rows["images"] > 0)
    kept = (rows["status"] < 400) & planned.notna()
    costs = paid.fillna(planned)[kept]
    return np.asarray(costs, np.float64), np.asarray(planned[kept], np.float64)


def _first(values: list[float], form: str = ".2f", absent: str = "no requests") -> str:
    return format(values[0], form) if values else f"unknown ({absent})"
