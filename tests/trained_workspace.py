"""A workspace of the miniature pool, with synthetic scores and a calibrated router."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from catimage.data.prompts.identity import prompt_id, splits_of
from catimage.data.provenance import SCORES_FILE, Provenance
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, write_table
from catimage.params import Params, load_params
from catimage.stages import calibrate, train
from catimage.workspace import Workspace
from tests.miniature import pool_tree
from tests.provenance import mark_validated

COSTS = {"mini-1": 1.0, "mini-2": 2.0, "mini-4": 4.0}
"""Cost of one image of each candidate, in TFLOPs."""
QUALITY = {"plain": (0.62, 0.61, 0.61), "crowded": (0.30, 0.45, 0.70)}
"""True quality of each candidate for the two kinds of prompts, in the order of ``COSTS``."""


def prompts_of(n: int) -> list[str]:
    """Return ``n`` prompts, which are alternately crowded and plain (see :data:`QUALITY`)."""
    nouns = ["amber", "basil", "cedar", "dune", "ember", "fjord", "grove", "heath", "iris", "jade"]
    return [
        f"{'plain' if i % 2 else 'crowded'} {nouns[i % 10]} {nouns[i // 10 % 10]} number {i}"
        for i in range(n)
    ]


def save_tables(workspace: Workspace, n: int = 400, noise: float = 0.02, seed: int = 0) -> None:
    """Write the prompts, candidates and scores tables of a workspace.

    Args:
        workspace: the workspace.
        n: number of prompts.
        noise: standard deviation of a score for one of the two image seeds.
        seed: seed of the random scores.
    """
    rng = np.random.default_rng(seed)
    texts = prompts_of(n)
    ids = [prompt_id(text) for text in texts]
    splits = splits_of(texts, 0.1)
    frame = pd.DataFrame(
        {"prompt_id": ids, "prompt": texts, "source": "synthetic", "split": splits}
    )
    write_table(frame, workspace.prompts, PROMPTS)
    rows = [(name, "mini", int(name[-1]), cost, "tflops") for name, cost in COSTS.items()]
    write_table(pd.DataFrame(rows, columns=CANDIDATES.names), workspace.candidates, CANDIDATES)
    scores = [
        (identifier, name, image_seed, "clip_score", "1", quality + noise * rng.standard_normal())
        for identifier, text in zip(ids, texts, strict=True)
        for name, quality in zip(COSTS, QUALITY[text.split()[0]], strict=True)
        for image_seed in (0, 1)
    ]
    inputs = Provenance(workspace).inputs(SCORES_FILE)
    write_table(pd.DataFrame(scores, columns=SCORES.names), workspace.scores, SCORES, inputs)


def train_workspace(
    root: Path, pool: str = "miniature", **settings: object
) -> tuple[Workspace, Params]:
    """Create a workspace with an estimator of kind ridge and a calibrated router.

    The stages train and calibrate run on synthetic tables. The validation report, which they need,
    is written without running the stage validate.

    Args:
        root: folder of the workspace.
        pool: name or path of the pool.
        settings: further keys of ``params.yaml``.

    Returns:
        The workspace and its parameters.
    """
    workspace = Workspace(root)
    save_tables(workspace)
    mark_validated(workspace)
    workspace.pools.mkdir()
    (workspace.pools / "miniature.yaml").write_text(yaml.safe_dump(pool_tree("sd")))
    workspace.params.write_text(
        yaml.safe_dump(
            {"pool": pool, "budget": "60%", "train": {"estimators": ["ridge"]}, **settings}
        )
    )
    params = load_params(workspace.params)
    train.run(workspace, params)
    calibrate.run(workspace, params)
    return workspace, params
