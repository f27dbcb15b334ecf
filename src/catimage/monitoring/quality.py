"""The check of predicted against measured quality."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from catimage.common.arrays import Floats
from catimage.monitoring.expected import Expected
from catimage.monitoring.mean_drift import bet
from catimage.monitoring.outcome import CheckOutcome, evidence_share
from catimage.params import MonitorParams

CONFIDENCE = 0.95
"""Confidence of the reported interval, at one point in time."""
_RANGE = 4.0
"""Range of errors, in standard deviations of the labels; larger errors are clipped. A smaller range
gives more evidence per audit."""


def errors_by_prompt(audits: pd.DataFrame, lower_is_better: bool) -> Floats:
    """Return predicted minus measured quality of each audited request, in order of time.

    Args:
        audits: rows of :data:`~catimage.data.audits.AUDITS` by one metric.
        lower_is_better: whether low scores are good, so that labels are negated scores.

    Returns:
        The mean over the candidates of each request, (n_requests,).
    """
    labels = -audits["score"] if lower_is_better else audits["score"]
    errors = (audits["predicted"] - labels).groupby([audits["time"], audits["request_id"]]).mean()
    return errors.to_numpy(float)


def errors_by_candidate(
    audits: pd.DataFrame, candidates: Sequence[str], lower_is_better: bool
) -> Floats:
    """Return predicted minus measured quality of each candidate, in order of time.

    Args:
        audits: rows of :data:`~catimage.data.audits.AUDITS` by one metric.
        candidates: names of the candidates.
        lower_is_better: whether low scores are good, so that labels are negated scores.

    Returns:
        The errors, (n_candidates, n_requests); NaN where a candidate was not audited.
    """
    labels = -audits["score"] if lower_is_better else audits["score"]
    keys = [audits["time"], audits["request_id"], audits["candidate"]]
    errors = (audits["predicted"] - labels).groupby(keys).mean().unstack("candidate")
    by_candidate: Floats = errors.reindex(columns=list(candidates)).to_numpy(float).T
    return by_candidate


def interval(errors: Floats) -> list[float] | None:
    """Return Student's interval of the mean of errors; None for fewer than two."""
    if len(errors) < 2:
        return None
    spread = stats.sem(errors) * stats.t.ppf((1 + CONFIDENCE) / 2, len(errors) - 1)
    return [float(errors.mean() - spread), float(errors.mean() + spread)]


def check_quality(
    state: dict[str, Any],
    new: pd.DataFrame,
    table: pd.DataFrame,
    until: datetime,
    expected: Expected,
    lower_is_better: bool,
    settings: MonitorParams,
) -> CheckOutcome:
    """Test whether the mean of predicted minus measured quality is far from 0, for all audited
    candidates together and for each of them.

    Args:
        state: the state of the last run.
        new: the audits of this run.
        table: all audits by the routed metric.
        until: end of the last interval.
        expected: the candidates, and the standard deviation of the labels.
        lower_is_better: whether low scores of the metric are good.
        settings: the section ``monitor``.
    """
    spread = max(expected.label_spread or 0.0, 1e-12)
    names = expected.candidates
    errors = np.vstack(
        [errors_by_prompt(new, lower_is_better), errors_by_candidate(new, names, lower_is_better)]
    )
    scaled = np.clip(errors / (_RANGE * spread) + 0.5, 0, 1)
    bound = 0.5 + settings.audit.max_bias / _RANGE
    values = np.concatenate([scaled, 1 - scaled])
    detectors, fresh, evidence = bet(state.get("detectors"), values, np.full(len(values), bound))
    since = state.get("since")
    if since is None and len(new):
        since = new["time"].min().isoformat()
    audited = _recent(table, since, until, settings)
    limit = settings.audit.max_bias * spread
    details = _details(audited, names, limit, lower_is_better)
    kept = {"detectors": detectors, "since": since}
    evidence = evidence_share(evidence, settings.threshold(max(settings.audit.prompts, 1)))
    restarted = kept | {"detectors": fresh}
    return CheckOutcome(kept, restarted, evidence, errors.shape[1], _message(**details), details)


def _recent(
    table: pd.DataFrame, since: str | None, until: datetime, settings: MonitorParams
) -> pd.DataFrame:
    """Return the audits of the last days since the check started; none if it has not started."""
    if since is None:
        return table.iloc[:0]
    first = max(datetime.fromisoformat(since), until - timedelta(days=settings.audit.days))
    return table[(table["time"] >= first) & (table["time"] < until)]


def _details(
    audits: pd.DataFrame, candidates: Sequence[str], limit: float, lower_is_better: bool
) -> dict[str, Any]:
    """Return the number of audited prompts, and the mean errors, also of each audited candidate."""
    errors = errors_by_prompt(audits, lower_is_better)
    by_candidate = errors_by_candidate(audits, candidates, lower_is_better)
    found = {n: row[np.isfinite(row)] for n, row in zip(candidates, by_candidate, strict=True)}
    return {
        "prompts": len(errors),
        "bias": float(errors.mean()) if len(errors) else None,
        "interval": interval(errors),
        "limit": limit,
        "by_candidate": {name: float(row.mean()) for name, row in found.items() if len(row)},
    }


def _message(
    prompts: int,
    bias: float | None,
    interval: list[float] | None,
    limit: float,
    by_candidate: dict[str, float],
) -> str:
    text = f"{prompts} audited prompts"
    if interval is not None:
        far = max(by_candidate, key=lambda name: abs(by_candidate[name]))
        text += (
            f", predicted minus measured quality {bias:+.3g} ({interval[0]:+.3g} to"
            f" {interval[1]:+.3g}), most of {far} ({by_candidate[far]:+.3g}), limit {limit:.3g}"
        )
    return f"{text}."
