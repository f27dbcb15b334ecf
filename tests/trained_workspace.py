"""A small workspace with synthetic scores of the miniature pool, trained and calibrated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from catimage.data.prompts.identity import prompt_id, split_of
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, write_table
from catimage.params import Params, load_params
from catimage.stages import calibrate, train
from catimage.workspace import Workspace
from tests.miniature import pool_tree

COSTS = {"mini-1": 1.0, "mini-2": 2.0, "mini-4": 4.0}
"""Cost of each candidate in TFLOPs."""
QUALITY = {"plain": (0.62, 0.61, 0.61), "crowded": (0.30, 0.45, 0.70)}
"""True quality of each candidate for the two kinds of prompts."""


def prompts_of(n: int) -> list[str]:
    """Return ``n`` prompts, crowded and plain ones alternately."""
    plants = ["amber", "basil", "cedar", "dune", "ember", "fjord", "grove", "heath", "iris", "jade"]
    return [
        f"{'plain' if i % 2 else 'crowded'} {plants[i % 10]} {plants[i // 10 % 10]} number {i}"
        for i in range(n)
    ]


def save_tables(workspace: Workspace, n: int = 400, noise: float = 0.02, seed: int = 0) -> None:
    """Write the tables of ``n`` prompts with two seeds, scored by clip_score."""
    rng = np.random.default_rng(seed)
    texts = prompts_of(n)
    ids = [prompt_id(text) for text in texts]
    splits = [split_of(identifier) for identifier in ids]
    frame = pd.DataFrame(
        {"prompt_id": ids, "prompt": texts, "source": "synthetic", "split": splits}
    )
    write_table(frame, workspace.prompts, PROMPTS)
    rows = [(c, "mini", int(c[-1]), cost, "tflops") for c, cost in COSTS.items()]
    write_table(pd.DataFrame(rows, columns=CANDIDATES.names), workspace.candidates, CANDIDATES)
    scores = [
        (i, c, s, "clip_score", "1", q + noise * rng.standard_normal())
        for i, t in zip(ids, texts, strict=True)
        for c, q in zip(COSTS, QUALITY[t.split()[0]], strict=True)
        for s in (0, 1)
    ]
    write_table(pd.DataFrame(scores, columns=SCORES.names), workspace.scores, SCORES)


def train_workspace(
    root: Path, pool: str = "miniature", **settings: object
) -> tuple[Workspace, Params]:
    """Write tables and a passed validation, and run stages train and calibrate with ridge."""
    workspace = Workspace(root)
    save_tables(workspace)
    workspace.reports.mkdir()
    (workspace.reports / "validation.json").write_text(json.dumps({"success": True}))
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
