"""A part of stage evaluate: prompts and images that the report shows, and the fixed candidate that
its cases are held against.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from catimage.common.arrays import Floats
from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import shard_path
from catimage.evaluation.budget import Operating
from catimage.evaluation.cases import case_samples
from catimage.evaluation.methods import Pool
from catimage.evaluation.samples import Sample, samples, telling_prompts
from catimage.params import Params
from catimage.pool.loading import load_pool
from catimage.workspace import Workspace


def reference_candidate(
    workspace: Workspace, params: Params, best_single: str, candidates: list[str]
) -> str:
    """The pool's ``reference_condition``; the best single candidate where it has none, or where the
    scores were imported.

    Raises:
        InputError: there is no such pool.
    """
    if params.imported is not None:
        return best_single
    wanted = load_pool(params.pool, workspace.pools).reference_condition
    return wanted if wanted in candidates else best_single


def shown_prompts(
    workspace: Workspace | None,
    test: pd.DataFrame,
    point: Operating,
    labels: Floats,
    pool: Pool,
    cases: dict[str, Any],
) -> dict[str, list[Sample]]:
    """``samples``, ``successes`` and ``failures`` for the report, with their images where
    ``workspace`` has made them.

    Args:
        workspace: None where the prompts are not its own.
        test: rows of the prompts table; ``point`` is the calibrated router on them and ``labels``
            (n_test, n_candidates), in that order.
        cases: of ``metrics.json``.
    """
    ids, predicted = test["prompt_id"].tolist(), point.predicted
    rows = telling_prompts(predicted, pool.cost)
    wanted = [ids[row] for row in rows.tolist()] + [
        case["prompt_id"] for kind in ("successes", "failures") for case in cases[kind]
    ]
    images = (
        first_images(workspace.images, list(dict.fromkeys(wanted)))
        if workspace and workspace.images.exists()
        else {}
    )
    places = {
        identifier: (row, prompt)
        for row, (identifier, prompt) in enumerate(zip(ids, test["prompt"], strict=True))
    }
    by_row = {(places[i][0], candidate): image for (i, candidate), image in images.items()}
    shown = {
        "samples": samples(
            rows, test["prompt"].tolist(), predicted, labels, pool, point.served(pool.cost), by_row
        )
    }
    for kind in ("successes", "failures"):
        shown[kind] = case_samples(
            cases[kind], cases["candidate"], places, predicted, labels, pool, images
        )
    return shown


def first_images(folder: Path, prompt_ids: list[str]) -> dict[tuple[str, str], bytes]:
    """The encoded image with the lowest seed of each of these prompts and each candidate, from the
    live shards.
    """
    found: dict[tuple[str, str], tuple[int, bytes]] = {}
    for entry in read_manifest(folder):
        columns = ["prompt_id", "candidate", "seed", "image"]
        table = pq.read_table(
            shard_path(folder, entry.shard),
            columns=columns,
            filters=[("prompt_id", "in", prompt_ids)],
            partitioning=None,
        )
        for row in table.to_pylist():
            key = row["prompt_id"], row["candidate"]
            if key not in found or row["seed"] < found[key][0]:
                found[key] = row["seed"], row["image"]
    return {key: image for key, (_, image) in found.items()}
