"""What the suites look at: the tables, with beside each row what it must agree with, and a few
tables counted from them.

Great Expectations holds a column against constants or against another column; what a rule needs to
know from elsewhere (another table, a hash, a metric's range) is therefore joined on here, and the
rules stay plain data.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from catimage.data.prompts.diversity import nearest_earlier
from catimage.data.prompts.identity import folded, prompt_id, splits_of
from catimage.data.schema import SPLITS
from catimage.encoders.embeddings import Embeddings
from catimage.metrics.composite import Composite
from catimage.metrics.registry import declaration, metric_names
from catimage.params import Params

KEYS = {
    "prompts": ["prompt_id"],
    "splits": ["split"],
    "candidates": ["candidate", "unit"],
    "scores": ["prompt_id", "candidate", "seed", "metric"],
    "metrics": ["metric"],
    "labels": ["prompt_id", "metric"],
    "similarity": ["prompt_id", "nearest"],
}
"""The columns that name a row of each frame."""
ROUNDING = 1e-5
"""By how much rounding may carry an image's score past that of its reference."""


def frames(
    prompts: pd.DataFrame,
    candidates: pd.DataFrame,
    scores: pd.DataFrame,
    params: Params,
    embeddings: Embeddings | None,
    references: Mapping[str, str] | None = None,
) -> dict[str, pd.DataFrame]:
    """The frames by name, as in :data:`KEYS`; ``similarity`` only where there are ``embeddings``.

    ``references`` gives the reference candidate of each candidate that has one.
    """
    ours = _declared(scores, params)
    made = {
        "prompts": _prompts(prompts),
        "splits": _splits(prompts),
        "candidates": _candidates(candidates, params.cost_unit),
        "scores": _scores(scores, prompts, ours),
        "metrics": _metrics(scores, ours, references or {}),
        "labels": _labels(scores, prompts["prompt_id"], candidates["candidate"].unique(), params),
    }
    return (
        made
        if embeddings is None
        else {**made, "similarity": _similarity(prompts["prompt_id"], embeddings)}
    )


def _declared(scores: pd.DataFrame, params: Params) -> dict[str, Any]:
    """What declares each metric of the table that is ours; none of them is where scores were
    imported.
    """
    if params.imported is not None and params.imported.kind == "scores":
        return {}
    known = {*metric_names(), *params.label.composites}
    return {name: declaration(name, params.label) for name in scores["metric"].unique() if name in known}


def _prompts(prompts: pd.DataFrame) -> pd.DataFrame:
    """With the identifier and the split that each must have, and in how many splits there are
    spellings of its text.
    """
    texts = prompts["prompt"].dropna()
    return prompts.assign(
        id_of_text=texts.map(prompt_id),
        split_of_id=pd.Series(splits_of(texts), texts.index, dtype=object),
        splits_of_text=prompts["split"].groupby(texts.map(folded)).transform("nunique"),
    )


def _splits(prompts: pd.DataFrame) -> pd.DataFrame:
    counts = prompts["split"].value_counts().reindex(list(SPLITS), fill_value=0)
    return pd.DataFrame({"split": list(SPLITS), "prompts": counts.to_numpy()})


def _candidates(candidates: pd.DataFrame, unit: str) -> pd.DataFrame:
    routed = candidates.loc[candidates["unit"] == unit, "candidate"].value_counts()
    return candidates.assign(
        costs_in_routed_unit=candidates["candidate"].map(routed).fillna(0).astype("int64")
    )


def _scores(
    scores: pd.DataFrame, prompts: pd.DataFrame, declared: Mapping[str, Any]
) -> pd.DataFrame:
    """With the prompt's split (null where the prompt is unknown), the range of the metric, and in
    how many versions it is there.
    """
    ranges = {name: metric.range for name, metric in declared.items()}
    anything = (-sys.float_info.max, sys.float_info.max)
    return scores.assign(
        split=scores["prompt_id"].map(
            prompts.drop_duplicates("prompt_id").set_index("prompt_id")["split"]
        ),
        lowest=scores["metric"].map(lambda name: ranges.get(name, anything)[0]).astype("float64"),
        highest=scores["metric"].map(lambda name: ranges.get(name, anything)[1]).astype("float64"),
        versions_of_metric=scores.groupby("metric")["version"].transform("nunique"),
    )


def _metrics(
    scores: pd.DataFrame, declared: Mapping[str, Any], references: Mapping[str, str]
) -> pd.DataFrame:
    """A row a metric: its ``spread``, and how many images are ``better_than_reference``.

    The spread is the distance from the lowest to the highest score, relative to the larger of their
    magnitudes.
    """
    rows = []
    for name, own in scores.groupby("metric"):
        finite = own.loc[np.isfinite(own["value"]), "value"]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        spread = 0.0 if low == high else (high - low) / max(abs(low), abs(high))
        rows.append(
            {
                "metric": name,
                "spread": spread,
                "better_than_reference": _better(own, declared.get(str(name)), references),
            }
        )
    return pd.DataFrame(rows, columns=["metric", "spread", "better_than_reference"])


def _better(scores: pd.DataFrame, metric: Any, references: Mapping[str, str]) -> int:
    """Images that score better than their reference does against itself: a metric of the declared
    direction has none.
    """
    if metric is None or isinstance(metric, Composite) or not metric.needs_reference:
        return 0  # a composite may have terms that compare with nothing
    values = scores.drop_duplicates(["candidate", "prompt_id", "seed"]).set_index(
        ["candidate", "prompt_id", "seed"]
    )["value"]
    known = scores[[references.get(name) is not None for name in scores["candidate"]]]
    reference = known["candidate"].map(dict(references))
    own = reference.map(dict(references)) == reference  # the reference is compared with itself
    at = pd.MultiIndex.from_arrays(
        [reference[own], known.loc[own, "prompt_id"], known.loc[own, "seed"]]
    )
    gain = known.loc[own, "value"].to_numpy() - values.reindex(at).to_numpy()
    return int(((gain if metric.higher_is_better else -gain) > ROUNDING).sum())


def _labels(
    scores: pd.DataFrame, prompt_ids: pd.Series, candidates: np.ndarray, params: Params
) -> pd.DataFrame:
    """For each prompt and metric, how many candidates have a score and how many scores there are,
    beside how many there must be.

    Where labels need not be complete, a prompt needs one label of a trained metric: estimators
    train on labels with holes, but not on none.
    """
    labelled = (
        params.label.metrics if params.imported is None or params.imported.kind == "images" else []
    )
    expected = [*params.trained_metrics, *labelled]
    metrics = list(dict.fromkeys([*expected, *scores["metric"].unique()]))
    known = scores[scores["candidate"].isin(candidates)]
    pairs = pd.MultiIndex.from_product(
        [prompt_ids.unique(), metrics], metric_names=["prompt_id", "metric"]
    )
    counts = (
        known.groupby(["prompt_id", "metric"])["candidate"]
        .agg(candidates="nunique", scores="size")
        .reindex(pairs, fill_value=0)
    )
    labels = counts.reset_index()
    complete, trained = (
        params.validation.complete_labels,
        labels["metric"].isin(params.trained_metrics),
    )
    labels["candidates_needed"] = len(candidates) if complete else trained.astype("int64")
    seeds = (
        {m: _seeds(scores, m, params) for m in metrics} if complete else dict.fromkeys(metrics, 1)
    )
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
    nearest = pd.DataFrame(
        {
            "prompt_id": ids,
            "nearest": [ids[p] if p >= 0 else "" for p in places],
            "max_similarity": values,
        }
    )
    return prompt_ids.to_frame().merge(nearest, how="left", on="prompt_id").fillna({"nearest": ""})
