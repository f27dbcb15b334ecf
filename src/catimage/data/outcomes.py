"""Logged outcomes: decisions of the service whose image was scored.

A score is either in the column ``score`` of the decision log, or in a table of audits, which has
one row per scored image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from catimage.data.traffic import OUTCOMES
from catimage.errors import InputError

AUDIT_COLUMNS = ("request_id", "candidate", "score")
"""Columns of a table of audits. The columns ``metric`` and ``time`` are optional; ``time`` tells
requests apart for which clients have set the same request id."""
_REQUEST = ["time", "request_id"]
NO_PROMPT = "no prompt in the log"
NO_CHOICE = "the candidate was requested by name or no router was loaded"
OTHER_CANDIDATE = "another candidate made the image, because the selected one failed"


@dataclass(frozen=True)
class LoggedOutcomes:
    """The scored decisions that an off-policy estimate can use.

    Attributes:
        table: rows of :data:`~catimage.data.traffic.OUTCOMES`.
        left_out: the number of scored decisions that cannot be used, by reason.
    """

    table: pd.DataFrame
    left_out: dict[str, int] = field(default_factory=dict)


def logged_outcomes(
    decisions: pd.DataFrame, metric: str, audits: pd.DataFrame | None = None
) -> LoggedOutcomes:
    """Return the decisions that have a score.

    Args:
        decisions: rows of the decision log.
        metric: the metric of the column ``score`` of the log, and of audits without a column
            ``metric``; audits by other metrics are ignored.
        audits: scored images, with the columns :data:`AUDIT_COLUMNS`. Several candidates of a
            request may be scored: the score of the candidate that was selected is used, and it
            replaces the score in the log.

    Raises:
        InputError: a column of the audits is missing.
    """
    scores = decisions["score"].astype(float)
    if audits is not None:
        scores = _audited(decisions, audits, metric).fillna(scores)
    scored = decisions.assign(score=scores, metric=metric)[scores.notna()]
    reasons = [_problem(row) for row in scored.to_dict("records")]
    kept = scored[np.array([reason is None for reason in reasons], bool)]
    cost = kept["cost"].astype(float) / kept["images"].astype(float)
    table = kept.assign(cost=cost)[OUTCOMES.names].reset_index(drop=True)
    return LoggedOutcomes(table, dict(Counter(filter(None, reasons))))


def merged_outcomes(earlier: pd.DataFrame, new: pd.DataFrame, since: pd.Timestamp) -> pd.DataFrame:
    """Return earlier and new outcomes in order of time, without those before ``since``.

    Of two outcomes of a request, the new one is kept.
    """
    table = pd.concat([frame for frame in (earlier, new) if len(frame)] or [new])
    table = table.drop_duplicates(_REQUEST, keep="last")
    return table[table["time"] >= since].sort_values(["time", "request_id"], ignore_index=True)


def _audited(decisions: pd.DataFrame, audits: pd.DataFrame, metric: str) -> pd.Series[float]:
    """Return the audited score of each decision's candidate, NaN without one."""
    if missing := [name for name in AUDIT_COLUMNS if name not in audits]:
        raise InputError(
            f"audits: the columns {', '.join(missing)} are missing. Write the columns"
            f" {', '.join(AUDIT_COLUMNS)}."
        )
    used = audits[audits["metric"] == metric] if "metric" in audits else audits
    columns = [*(["time"] if "time" in used else []), "request_id", "candidate"]
    scores = used.groupby(columns)["score"].mean().to_dict()
    images = decisions[columns].itertuples(index=False, name=None)
    return pd.Series([scores.get(image, np.nan) for image in images], decisions.index, float)


def _problem(row: Mapping[Hashable, Any]) -> str | None:
    """Return the reason why a scored decision cannot be used; None if it can."""
    if not isinstance(row["prompt"], str):
        return NO_PROMPT
    if pd.isna(row["lambda"]) or not row["propensities"]:
        return NO_CHOICE
    if row["served"] != row["candidate"] or not row["images"]:
        return OTHER_CANDIDATE
    return None
