"""The frame of metrics: the spread of their scores, and their direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from catimage.metrics.composite import Composite

TOLERANCE = 1e-5
"""The largest rounding error in the comparison of the scores of an image and its reference."""


def metric_frame(
    scores: pd.DataFrame, declarations: Mapping[str, Any], references: Mapping[str, str]
) -> pd.DataFrame:
    """Return one row per metric, with ``spread`` and ``better_than_reference``.

    ``better_than_reference`` is the number of images with a better score than their reference
    image. The spread is the difference between the highest and the lowest score, divided by the
    larger absolute value of the two.
    """
    rows = []
    for name, rows_of_metric in scores.groupby("metric"):
        values = rows_of_metric["value"]
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        spread = 0.0 if low == high else (high - low) / max(abs(low), abs(high))
        better = _better_than_reference(rows_of_metric, declarations.get(str(name)), references)
        rows.append({"metric": name, "spread": spread, "better_than_reference": better})
    return pd.DataFrame(rows, columns=["metric", "spread", "better_than_reference"])


def _better_than_reference(
    scores: pd.DataFrame, declared: Any, references: Mapping[str, str]
) -> int:
    """Count the images with a better score than their reference image.

    The score of a reference image compares the image with itself and is the best possible score, so
    that the count is 0 if the declared direction of the metric is right. An image is not counted if
    its reference candidate has another candidate as its reference. Composites are not checked,
    since they can have terms that need no reference image.
    """
    if declared is None or isinstance(declared, Composite) or not declared.needs_reference:
        return 0
    keys = ["candidate", "prompt_id", "seed"]
    values = scores.drop_duplicates(keys).set_index(keys)["value"]
    compared = scores[scores["candidate"].isin(list(references))]
    reference = compared["candidate"].map(dict(references))
    compared = compared[reference.map(dict(references)) == reference]
    reference = reference[compared.index]
    index = pd.MultiIndex.from_arrays([reference, compared["prompt_id"], compared["seed"]])
    gain = compared["value"].to_numpy() - values.reindex(index).to_numpy()
    return int(((gain if declared.higher_is_better else -gain) > TOLERANCE).sum())
