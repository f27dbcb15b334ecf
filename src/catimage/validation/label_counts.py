"""Numbers of existing and needed labels of every prompt and metric."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def label_counts(
    scores: pd.DataFrame,
    prompts: NDArray[np.object_],
    candidates: NDArray[np.object_],
    refused: Mapping[str, pd.DataFrame],
    n_seeds: int,
    needed_metrics: Collection[str] | None,
) -> pd.DataFrame:
    """Return the numbers of existing and needed candidates and scores of every prompt and metric.

    Every candidate needs a score of every seed if the pool generated the images. Imported data may
    have other seeds for each prompt, so every candidate needs one score. If incomplete labels are
    allowed, a prompt needs at least one label of each trained metric, because estimators accept
    missing labels, but no prompt without any label. Images that were refused need no scores.

    Args:
        scores: the scores table.
        prompts: the ids of the prompts.
        candidates: the names of the candidates.
        refused: for each metric, the images that cannot have a score.
        n_seeds: the number of scores per label; 1 for imported data.
        needed_metrics: the metrics of which every prompt needs a label if incomplete labels are
            allowed; None if all labels are needed.
    """
    pairs = pd.MultiIndex.from_product([prompts, list(refused)], names=["prompt_id", "metric"])
    groups = scores[scores["candidate"].isin(candidates)].groupby(["prompt_id", "metric"])
    counts = groups["candidate"].agg(candidates="nunique", scores="size")
    labels = counts.reindex(pairs, fill_value=0).reset_index()
    images, without_images = _refused_counts(refused, n_seeds, pairs)
    if needed_metrics is None:
        labels["candidates_needed"] = len(candidates) - without_images
        labels["scores_needed"] = len(candidates) * n_seeds - images
    else:
        is_needed = labels["metric"].isin(list(needed_metrics)) & (without_images < len(candidates))
        labels["candidates_needed"] = labels["scores_needed"] = is_needed.astype("int64")
    return labels


def _refused_counts(
    refused: Mapping[str, pd.DataFrame], n_seeds: int, pairs: pd.MultiIndex
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each prompt and metric, the refused images and the candidates without any image.

    Args:
        refused: the refused images by metric.
        n_seeds: the number of images per candidate.
        pairs: the prompts and metrics.
    """
    tables = [table.assign(metric=metric) for metric, table in refused.items()]
    per_candidate = pd.concat(tables).groupby(["prompt_id", "metric", "candidate"]).size()
    by_prompt = per_candidate.groupby(level=["prompt_id", "metric"])
    without_image = (per_candidate >= n_seeds).groupby(level=["prompt_id", "metric"])
    images, without_images = by_prompt.sum(), without_image.sum()
    return _in_order(images, pairs), _in_order(without_images, pairs)


def _in_order(counts: pd.Series, pairs: pd.MultiIndex) -> NDArray[np.int64]:
    return np.asarray(counts.reindex(pairs, fill_value=0), np.int64)


def refused_by_metric(
    refused: pd.DataFrame, references: Mapping[str, str], declared: Any
) -> pd.DataFrame:
    """Return the images that cannot have a score of a metric.

    These are the refused images and, if the metric needs reference images, the images whose
    reference image was refused.

    Args:
        refused: the refused images.
        references: the reference candidate of each candidate that has one.
        declared: the declaration of the metric; None if it is unknown.
    """
    if refused.empty or declared is None or not declared.needs_reference:
        return refused
    tables = [
        refused[refused["candidate"] == reference].assign(candidate=candidate)
        for candidate, reference in references.items()
    ]
    return pd.concat([refused, *tables], ignore_index=True).drop_duplicates(
        ["prompt_id", "candidate", "seed"]
    )
