"""The check of predicted against measured quality."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from catimage.common.arrays import Floats
from catimage.monitoring.mean_drift import bet
from catimage.monitoring.outcome import CheckOutcome, evidence_share
from catimage.params import MonitorParams

CONFIDENCE = 0.95
"""Confidence of the reported interval, at one point in time."""
_RANGE = 8.0
"""Range of errors, in standard deviations of the labels; larger errors are clipped."""


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
    spread: float,
    lower_is_better: bool,
    settings: MonitorParams,
) -> CheckOutcome:
    """Test whether the mean of predicted minus measured quality is far from 0.

    Args:
        state: the state of the last run.
        new: the audits of this run.
        table: all audits by the routed metric.
        until: end of the last interval.
        spread: standard deviation of the labels.
        lower_is_better: whether low scores of the metric are good.
        settings: the section ``monitor``.
    """
    spread = max(spread, 1e-12)
    scaled = np.clip(errors_by_prompt(new, lower_is_better) / (_RANGE * spread) + 0.5, 0, 1)
    bound = 0.5 + settings.audit.max_bias / _RANGE
    detectors, fresh, evidence = bet(
        state.get("detectors"), np.stack([scaled, 1 - scaled]), [bound, bound]
    )
    since = state.get("since")
    if since is None and len(new):
        since = new["time"].min().isoformat()
    limit = settings.audit.max_bias * spread
    recent = errors_by_prompt(_recent(table, since, until, settings), lower_is_better)
    bounds = interval(recent)
    bias = float(recent.mean()) if len(recent) else None
    details = {"prompts": len(recent), "bias": bias, "interval": bounds, "limit": limit}
    kept = {"detectors": detectors, "since": since}
    evidence = evidence_share(evidence, settings.threshold(max(settings.audit.prompts, 1)))
    message = _message(recent, bounds, limit)
    return CheckOutcome(kept, kept | {"detectors": fresh}, evidence, len(scaled), message, details)


def _recent(
    table: pd.DataFrame, since: str | None, until: datetime, settings: MonitorParams
) -> pd.DataFrame:
    """Return the audits of the last days since the check started; none if it has not started."""
    if since is None:
        return table.iloc[:0]
    first = max(datetime.fromisoformat(since), until - timedelta(days=settings.audit.days))
    return table[(table["time"] >= first) & (table["time"] < until)]


def _message(errors: Floats, bounds: list[float] | None, limit: float) -> str:
    text = f"{len(errors)} audited prompts"
    if bounds is not None:
        text += (
            f", predicted minus measured quality {errors.mean():+.3g} ({bounds[0]:+.3g} to"
            f" {bounds[1]:+.3g}), limit {limit:.3g}"
        )
    return f"{text}."
