"""The data frames that the suites check: tables with additional columns, and summaries of tables.

Great Expectations compares a column with constants or with another column of the same frame. Other
values (from another table, a hash, the range of a metric) are therefore added here as columns.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from catimage.data.prompts.diversity import nearest_earlier
from catimage.data.prompts.identity import folded, prompt_id, required_splits, splits_of
from catimage.data.schema import REFUSED_COLUMNS, SPLITS
from catimage.encoders.embeddings import Embeddings
from catimage.metrics.registry import declaration, metric_names
from catimage.params import LabelParams, Params
from catimage.validation.history import history_frame
from catimage.validation.images import NO_IMAGES
from catimage.validation.label_counts import label_counts, refused_by_metric
from catimage.validation.metric_frame import metric_frame

KEYS = {
    "prompts": ["prompt_id"],
    "splits": ["split"],
    "candidates": ["candidate", "unit"],
    "scores": ["prompt_id", "candidate", "seed", "metric"],
    "metrics": ["metric"],
    "labels": ["prompt_id", "metric"],
    "similarity": ["prompt_id", "nearest"],
    "images": ["candidate"],
    "history": ["metric", "candidate"],
    "decisions": ["request_id"],
}
"""By frame, the columns that identify a row."""


@dataclass(frozen=True)
class ValidationTables:
    """The tables of a workspace.

    Attributes:
        prompts: the prompts table.
        candidates: the candidates table.
        scores: the scores table.
        embeddings: the embeddings of the prompts; None if similarities are not checked.
        refused: the images that were refused and need no scores, with the columns ``prompt_id``,
            ``candidate`` and ``seed``.
        images: the frame of a sample of the images (:mod:`catimage.validation.images`).
        champion_labels: the labels that the champion was trained on; None without a champion.
    """

    prompts: pd.DataFrame
    candidates: pd.DataFrame
    scores: pd.DataFrame
    embeddings: Embeddings | None = None
    refused: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=list(REFUSED_COLUMNS))
    )
    images: pd.DataFrame = field(default_factory=NO_IMAGES.copy)
    champion_labels: pd.DataFrame | None = None


@dataclass(frozen=True)
class Requirements:
    """The parameters that the tables have to match.

    Attributes:
        cost_unit: the unit in which every candidate needs a cost.
        trained_metrics: the metrics that estimators are trained on.
        label: the section ``label`` of params.yaml; None if scores were imported, because the
            metrics of this package do not apply to them.
        seeds: the seeds of every prompt and candidate; None if the data were imported.
        complete_labels: whether every prompt needs a label of every candidate.
        references: the name of the reference candidate of each candidate that has one.
        gate_share: the share of the prompts in the split ``gate``.
    """

    cost_unit: str
    trained_metrics: Sequence[str]
    label: LabelParams | None
    seeds: Sequence[int] | None
    complete_labels: bool
    references: Mapping[str, str] = field(default_factory=dict)
    gate_share: float = 0.1

    @classmethod
    def of(cls, params: Params, references: Mapping[str, str] | None = None) -> Requirements:
        """Return the requirements that ``params.yaml`` and the reference candidates define."""
        imported = params.imported
        scores_imported = imported is not None and imported.kind == "scores"
        return cls(
            cost_unit=params.cost_unit,
            trained_metrics=params.trained_metrics,
            label=None if scores_imported else params.label,
            seeds=None if imported is not None else params.generate.seeds,
            complete_labels=params.validation.complete_labels,
            references=references or {},
            gate_share=params.gate_share,
        )

    def declarations(self, metrics: Sequence[str]) -> dict[str, Any]:
        """Return the declarations of those names in ``metrics`` that are metrics or composites."""
        if self.label is None:
            return {}
        declared = {*metric_names(), *self.label.composites}
        return {name: declaration(name, self.label) for name in metrics if name in declared}


def frames(tables: ValidationTables, required: Requirements) -> dict[str, pd.DataFrame]:
    """Return the frames by their names in :data:`KEYS`; ``similarity`` requires embeddings."""
    scores = tables.scores
    declarations = required.declarations(list(scores["metric"].unique()))
    result = {
        "prompts": _prompts(tables.prompts, required.gate_share),
        "splits": _splits(tables.prompts, required.gate_share),
        "candidates": _candidates(tables.candidates, required.cost_unit),
        "scores": _scores(scores, tables.prompts, declarations),
        "metrics": metric_frame(scores, declarations, required.references),
        "labels": _labels(tables, required),
        "images": tables.images,
        "history": history_frame(scores, tables.champion_labels, _directions(declarations)),
    }
    if tables.embeddings is not None:
        result["similarity"] = _similarity(tables.prompts["prompt_id"], tables.embeddings)
    return result


def _directions(declarations: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether high scores of a metric are good, by the name of the metric."""
    return {name: declared.higher_is_better for name, declared in declarations.items()}


def _prompts(prompts: pd.DataFrame, gate_share: float) -> pd.DataFrame:
    """Add the id and the split of each text, and the number of splits that its spellings are in."""
    texts = prompts["prompt"].dropna()
    return prompts.assign(
        id_of_text=texts.map(prompt_id),
        split_of_id=pd.Series(splits_of(texts, gate_share), texts.index, dtype=object),
        splits_of_text=prompts["split"].groupby(texts.map(folded)).transform("nunique"),
    )


def _splits(prompts: pd.DataFrame, gate_share: float) -> pd.DataFrame:
    """Return the number of prompts of each split, and the smallest number that it may have."""
    counts = prompts["split"].value_counts().reindex(list(SPLITS), fill_value=0)
    needed = [int(split in required_splits(gate_share)) for split in SPLITS]
    return counts.rename_axis("split").reset_index(name="prompts").assign(prompts_needed=needed)


def _candidates(candidates: pd.DataFrame, unit: str) -> pd.DataFrame:
    cost_counts = candidates.loc[candidates["unit"] == unit, "candidate"].value_counts()
    return candidates.assign(
        costs_in_routed_unit=candidates["candidate"].map(cost_counts).fillna(0).astype("int64")
    )


def _scores(
    scores: pd.DataFrame, prompts: pd.DataFrame, declarations: Mapping[str, Any]
) -> pd.DataFrame:
    """Add the split of the prompt (null if the prompt is unknown), and data of the metric.

    The data are the range of the metric and the number of its versions in the table.
    """
    ranges = {name: declared.range for name, declared in declarations.items()}
    unbounded = (-sys.float_info.max, sys.float_info.max)
    bounds = [ranges.get(name, unbounded) for name in scores["metric"]]
    splits = prompts.drop_duplicates("prompt_id").set_index("prompt_id")["split"]
    return scores.assign(
        split=scores["prompt_id"].map(splits),
        lowest=np.array([low for low, _ in bounds], "float64"),
        highest=np.array([high for _, high in bounds], "float64"),
        versions_of_metric=scores.groupby("metric")["version"].transform("nunique"),
    )


def _labels(tables: ValidationTables, required: Requirements) -> pd.DataFrame:
    """Return the numbers of existing and needed labels; see :func:`label_counts`."""
    label_metrics = required.label.metrics if required.label else []
    names = dict.fromkeys(
        [*required.trained_metrics, *label_metrics, *tables.scores["metric"].unique()]
    )
    declarations = required.declarations(list(names))
    refused = {
        name: refused_by_metric(tables.refused, required.references, declarations.get(name))
        for name in names
    }
    return label_counts(
        tables.scores,
        tables.prompts["prompt_id"].unique(),
        tables.candidates["candidate"].unique(),
        refused,
        len(set(required.seeds or [0])),
        None if required.complete_labels else required.trained_metrics,
    )


def _similarity(prompt_ids: pd.Series, embeddings: Embeddings) -> pd.DataFrame:
    """Return each prompt's most similar earlier prompt and their similarity.

    The similarity is null if the prompt has no embedding.
    """
    embedded = set(embeddings.prompt_ids)
    ids = [identifier for identifier in prompt_ids if identifier in embedded]
    values, indices = nearest_earlier(embeddings.take(ids).pooled)
    nearest = pd.DataFrame(
        {
            "prompt_id": ids,
            "nearest": [ids[i] if i >= 0 else "" for i in indices],
            "max_similarity": values,
        }
    )
    return prompt_ids.to_frame().merge(nearest, how="left", on="prompt_id").fillna({"nearest": ""})
