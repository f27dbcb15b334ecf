"""The frame that compares scores with those that the champion was trained on.

``data/champion_labels.parquet`` has the labels of a sample of the prompts at the time when the
champion was registered. It is written when a version becomes champion
(:mod:`catimage.tracking.label_history`). Two statistics are computed for each metric and candidate,
in standard deviations of the labels of the metric:

- The *shift* compares the labels of the same prompts, then and now. It is 0 unless images were
  generated again or scores computed again.
- The *decline* compares prompts that are new with the earlier ones: the advantage of the candidate
  over the mean of all candidates for the same prompt, then minus now. Prompts that are more
  difficult for all candidates do not change it, so drift of the prompts is no decline. Two standard
  errors are subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from catimage.common.files import damage_reported

COLUMNS = ("metric", "candidate", "shift", "decline")
"""The columns of the frame."""
MIN_PROMPTS = 20
"""The smallest number of prompts for which a statistic is computed; otherwise it is 0."""
STANDARD_ERRORS = 2.0
_KEYS = ["metric", "version", "prompt_id"]


def label_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the labels, the means of the scores over the seeds.

    Args:
        scores: a table of scores.

    Returns:
        A table with the columns ``metric``, ``version``, ``prompt_id``, ``candidate``, ``value``.
    """
    grouped = scores.groupby([*_KEYS, "candidate"], sort=True)["value"].mean()
    return grouped.reset_index()


def read_labels(path: Path) -> pd.DataFrame | None:
    """Read a table of labels; return None if there is none."""
    if not path.exists():
        return None
    with damage_reported(path, "promote", pa.ArrowException, KeyError):
        table = pd.read_parquet(path)
        return table[[*_KEYS, "candidate", "value"]]


def history_frame(
    scores: pd.DataFrame, reference: pd.DataFrame | None, directions: Mapping[str, bool]
) -> pd.DataFrame:
    """Compare scores with reference labels; return one row per metric and candidate.

    Metrics of another version, and candidates that only one of the tables has, are not compared.

    Args:
        scores: the table of scores.
        reference: the output of :func:`read_labels`; None for an empty frame.
        directions: whether high scores of a metric are good, by name; by default they are.
    """
    rows = [] if reference is None else list(_rows(label_table(scores), reference, directions))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    labels: pd.DataFrame, reference: pd.DataFrame, directions: Mapping[str, bool]
) -> Iterator[tuple[str, str, float, float]]:
    """Yield the rows of the frame."""
    for (metric, version), before in reference.groupby(["metric", "version"]):
        after = labels[(labels["metric"] == metric) & (labels["version"] == version)]
        then, now = _matrix(before), _matrix(after)
        candidates = [name for name in then.columns if name in now.columns]
        then, now = then[candidates].dropna(), now[candidates].dropna()
        scale = float(np.std(then.to_numpy())) if then.size else 0.0
        if not scale:
            continue
        sign = 1.0 if directions.get(str(metric), True) else -1.0
        for name in candidates:
            shift, decline = _shift(then[name], now[name]), _decline(then, now, name, sign)
            yield str(metric), str(name), shift / scale, decline / scale


def _matrix(labels: pd.DataFrame) -> pd.DataFrame:
    """Return one row per prompt and one column per candidate."""
    return labels.pivot_table(index="prompt_id", columns="candidate", values="value")


def _shift(then: pd.Series, now: pd.Series) -> float:
    """Return the absolute mean change of the labels of the prompts of both tables."""
    common = then.index.intersection(now.index)
    return float(abs((now[common] - then[common]).mean())) if len(common) >= MIN_PROMPTS else 0.0


def _decline(then: pd.DataFrame, now: pd.DataFrame, name: str, sign: float) -> float:
    """Return how much smaller the advantage of a candidate is for new prompts, at least 0."""
    new = now.drop(index=then.index, errors="ignore")
    if min(len(new), len(then)) < MIN_PROMPTS or then.shape[1] < 2:
        return 0.0
    before, after = ((t[name] - t.mean(axis=1)) * sign for t in (then, new))
    error = float(np.sqrt(before.var() / len(before) + after.var() / len(after)))
    return max(0.0, float(before.mean() - after.mean()) - STANDARD_ERRORS * error)
