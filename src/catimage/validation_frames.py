"""What the suites look at: the tables, with beside each row what it must agree with, and a few tables counted from them.

Great Expectations holds a column against constants or against another column; what a rule needs to know from elsewhere
(another table, a hash, a metric's range) is therefore joined on here, and the rules stay plain data.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from catimage.encoders.embeddings import Embeddings
from catimage.metrics import metric_class, names
from catimage.params import Params
from catimage.prompts.diversity import nearest_earlier
from catimage.tables import SPLITS, normalise, prompt_id, split_of

KEYS = {
    "prompts": ["prompt_id"],
    "splits": ["split"],
    "candidates": ["candidate", "unit"],
    "scores": ["prompt_id", "candidate", "seed", "metric"],
    "labels": ["prompt_id", "metric"],
    "similarity": ["prompt_id", "nearest"],
}
"""The columns that name a row of each frame."""


def frames(
    prompts: pd.DataFrame, candidates: pd.DataFrame, scores: pd.DataFrame, params: Params, embeddings: Embeddings | None
) -> dict[str, pd.DataFrame]:
    """The frames by name, as in :data:`KEYS`; ``similarity`` only where there are ``embeddings``."""
    made = {
        "prompts": _prompts(prompts),
        "splits": _splits(prompts),
        "candidates": _candidates(candidates, params.cost_unit),
        "scores": _scores(scores, prompts, imported=params.imported is not None),
        "labels": _labels(scores, prompts["prompt_id"], candidates["candidate"].unique(), params),
    }
    return made if embeddings is None else {**made, "similarity": _similarity(prompts["prompt_id"], embeddings)}


def _prompts(prompts: pd.DataFrame) -> pd.DataFrame:
    text = prompts["prompt"].map(normalise, na_action="ignore")
    return prompts.assign(
        id_of_text=prompts["prompt"].map(prompt_id, na_action="ignore"),
        split_of_id=prompts["prompt_id"].map(split_of, na_action="ignore"),
        splits_of_text=prompts["split"].groupby(text).transform("nunique"),
    )


def _splits(prompts: pd.DataFrame) -> pd.DataFrame:
    counts = prompts["split"].value_counts().reindex(list(SPLITS), fill_value=0)
    return pd.DataFrame({"split": list(SPLITS), "prompts": counts.to_numpy()})


def _candidates(candidates: pd.DataFrame, unit: str) -> pd.DataFrame:
    routed = candidates.loc[candidates["unit"] == unit, "candidate"].value_counts()
    return candidates.assign(costs_in_routed_unit=candidates["candidate"].map(routed).fillna(0).astype("int64"))


def _scores(scores: pd.DataFrame, prompts: pd.DataFrame, imported: bool) -> pd.DataFrame:
    """With the prompt's split (null where the prompt is unknown), the range of the metric, and in how many versions it is there."""
    ranges = {} if imported else {name: metric_class(name).range for name in names() if name in set(scores["metric"])}
    anything = (-sys.float_info.max, sys.float_info.max)
    return scores.assign(
        split=scores["prompt_id"].map(prompts.drop_duplicates("prompt_id").set_index("prompt_id")["split"]),
        lowest=scores["metric"].map(lambda name: ranges.get(name, anything)[0]).astype("float64"),
        highest=scores["metric"].map(lambda name: ranges.get(name, anything)[1]).astype("float64"),
        versions_of_metric=scores.groupby("metric")["version"].transform("nunique"),
    )


def _labels(scores: pd.DataFrame, prompt_ids: pd.Series, candidates: np.ndarray, params: Params) -> pd.DataFrame:
    """For each prompt and metric, how many candidates have a score and how many scores there are, beside how many there must be.

    A trained metric needs every candidate in any case: a label for every choice (eq. 3).
    """
    expected = params.trained_metrics if params.imported is not None else [*params.trained_metrics, *params.label.metrics]
    metrics = list(dict.fromkeys([*expected, *scores["metric"].unique()]))
    known = scores[scores["candidate"].isin(candidates)]
    pairs = pd.MultiIndex.from_product([prompt_ids.unique(), metrics], names=["prompt_id", "metric"])
    counts = known.groupby(["prompt_id", "metric"])["candidate"].agg(candidates="nunique", scores="size").reindex(pairs, fill_value=0)
    labels = counts.reset_index()
    complete, trained = params.validation.complete_labels, labels["metric"].isin(params.trained_metrics)
    labels["candidates_needed"] = np.where(complete | trained, len(candidates), 0)
    seeds = {m: _seeds(scores, m, params) for m in metrics} if complete else dict.fromkeys(metrics, 1)
    labels["scores_needed"] = labels["candidates_needed"] * labels["metric"].map(seeds)
    return labels


def _seeds(scores: pd.DataFrame, metric: str, params: Params) -> int:
    if params.imported is not None:
        return int(scores.loc[scores["metric"] == metric, "seed"].nunique())
    return len(set(params.generate.seeds))


def _similarity(prompt_ids: pd.Series, embeddings: Embeddings) -> pd.DataFrame:
    """Each prompt's nearest among those before it; null where the prompt has no embedding."""
    known = set(embeddings.prompt_ids)
    ids = [i for i in prompt_ids if i in known]
    values, places = nearest_earlier(embeddings.take(ids).pooled)
    nearest = pd.DataFrame({"prompt_id": ids, "nearest": [ids[p] if p >= 0 else "" for p in places], "max_similarity": values})
    return prompt_ids.to_frame().merge(nearest, how="left", on="prompt_id").fillna({"nearest": ""})
