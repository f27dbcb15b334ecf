"""The check of predicted against measured quality."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from catimage.common.arrays import Floats
from catimage.monitoring.mean_drift import bet
from catimage.monitoring.outcome import Outcome, evidence_share
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


def interval(errors: Floats) -> tuple[float, float] | None:
    """Return Student's interval of the mean of errors; None for fewer than two."""
    if len(errors) < 2:
        return None
    spread = stats.sem(errors) * stats.t.ppf((1 + CONFIDENCE) / 2, len(errors) - 1)
    return float(errors.mean() - spread), float(errors.mean() + spread)


def check_quality(
    state: dict[str, Any],
    new: pd.DataFrame,
    table: pd.DataFrame,
    until: datetime,
    spread: float,
    lower_is_better: bool,
    settings: MonitorParams,
) -> Outcome:
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
    limit = 0.5 + settings.audit.max_bias / _RANGE
    detectors, fresh, evidence = bet(
        state.get("detectors"), np.stack([scaled, 1 - scaled]), [limit, limit]
    )
    since = state.get("since") or until.isoformat()
    if len(new) and not state.get("since"):
        since = new["time"].min().isoformat()
    first = max(datetime.fromisoformat(since), until - timedelta(days=settings.audit.days))
    recent = errors_by_prompt(table[table["time"] >= first], lower_is_better)
    bounds = interval(recent)
    message = f"{len(recent)} audited prompts"
    if bounds is not None:
        message += (
            f", predicted minus measured quality {recent.mean():+.3g} ({bounds[0]:+.3g} to"
            f" {bounds[1]:+.3g}), limit {settings.audit.max_bias * spread:.3g}"
        )
    details = {
        "prompts": len(recent),
        "bias": float(recent.mean()) if len(recent) else None,
        "interval": list(bounds) if bounds else None,
        "limit": settings.audit.max_bias * spread,
    }
    kept = {"detectors": detectors, "since": since if len(recent) else None}
    evidence = evidence_share(evidence, settings.threshold(max(settings.audit.prompts, 1)))
    return Outcome(kept, kept | {"detectors": fresh}, evidence, len(scaled), f"{message}.", details)
