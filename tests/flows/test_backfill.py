"""The flow ``backfill`` with DVC and the real stages: a new candidate, then a new metric."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import yaml

from catimage.data.schema import PROMPTS, read_table
from catimage.router import Router
from catimage.workspace import Workspace
from flows import backfill
from tests.flows.test_growing_prompts import (  # noqa: F401
    POOL,
    catimage_command,
    files_of,
    project,
    repro,
)

COUNT = 20
"""Number of training prompts whose images of the new candidate are generated."""
KEYS = ["prompt_id", "candidate", "seed", "metric"]


def scores_of(workspace: Workspace) -> pd.Series[float]:
    return pd.read_parquet(workspace.scores).set_index(KEYS)["value"].sort_index()


def labelled(workspace: Workspace, candidate: str, metric: str) -> set[str]:
    """Return the prompts that have a score of a candidate by a metric."""
    rows = pd.read_parquet(workspace.scores)
    chosen = (rows["candidate"] == candidate) & (rows["metric"] == metric)
    return set(rows.loc[chosen, "prompt_id"])


def prompts_of(workspace: Workspace, *splits: str) -> set[str]:
    rows = read_table(workspace.prompts, PROMPTS, "sample")
    return set(rows.loc[rows["split"].isin(splits), "prompt_id"])


def evaluated(workspace: Workspace) -> list[str]:
    """Return the candidates in ``metrics.json``."""
    document = json.loads((workspace.reports / "metrics.json").read_text())
    return [row["candidate"] for row in document["candidates"]]


def estimated(workspace: Workspace) -> list[str]:
    return list(Router.load(workspace.router).candidates)


@pytest.mark.system
@pytest.mark.usefixtures("prefect_server")
def test_a_candidate_and_a_metric_are_added_and_the_next_run_trains_on_their_labels(
    project: Workspace,  # noqa: F811
) -> None:
    repro(project)
    shards, before = files_of(project.images), scores_of(project)
    pool = {**POOL, "candidates": [*POOL["candidates"]]}
    pool["candidates"].append({"candidate": "sd-3", "generator": "sd", "steps": 3})
    (project.pools / "mini.yaml").write_text(yaml.safe_dump(pool))

    summary = backfill.backfill(project.root, candidate="sd-3", prompts=COUNT)
    others = prompts_of(project, "gate", "val", "test")
    new = labelled(project, "sd-3", "clip_score")
    assert others < new and len(new - others) == COUNT
    assert new - others < prompts_of(project, "train")
    assert estimated(project) == evaluated(project) == ["sd-1", "sd-2", "sd-3"]
    after = files_of(project.images)
    assert {name: after[name] for name in shards} == shards, "the old images are unchanged"
    assert scores_of(project)[before.index].equals(before)
    assert f"trains on {len(before) + len(new):,} scores" in summary

    images = files_of(project.images)
    backfill.backfill(project.root, metric="sharpness")
    assert yaml.safe_load(project.params.read_text())["label"]["metrics"] == [
        "clip_score",
        "sharpness",
    ]
    assert files_of(project.images) == images, "no image is generated"
    for candidate in ("sd-1", "sd-2", "sd-3"):
        expected = labelled(project, candidate, "clip_score")
        assert labelled(project, candidate, "sharpness") == expected
    assert scores_of(project)[before.index].equals(before)

    ran = repro(project)
    assert {"train", "calibrate", "evaluate"} <= set(ran)
    assert estimated(project) == evaluated(project) == ["sd-1", "sd-2", "sd-3"]
    assert scores_of(project)[before.index].equals(before)
