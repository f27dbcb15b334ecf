"""A small workspace with a calibrated router over the miniature pool's candidates: real stages on
scores that are made up.
"""

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

COST = {"mini-1": 1.0, "mini-2": 2.0, "mini-4": 4.0}
"""TFLOPs, by fiat."""
QUALITY = {"plain": (0.62, 0.61, 0.61), "crowded": (0.30, 0.45, 0.70)}
"""What the candidates are worth to the two kinds of prompts, so that the right answer is known."""


def prompts_of(n: int) -> list[str]:
    words = ["amber", "basil", "cedar", "dune", "ember", "fjord", "grove", "heath", "iris", "jade"]
    return [
        f"{'plain' if i % 2 else 'crowded'} {words[i % 10]} {words[i // 10 % 10]} number {i}"
        for i in range(n)
    ]


def save_tables(workspace: Workspace, n: int = 400, noise: float = 0.02, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    texts = prompts_of(n)
    ids = [prompt_id(t) for t in texts]
    frame = pd.DataFrame(
        {
            "prompt_id": ids,
            "prompt": texts,
            "source": "made up",
            "split": [split_of(i) for i in ids],
        }
    )
    write_table(frame, workspace.prompts, PROMPTS)
    rows = [(c, "mini", int(c[-1]), cost, "tflops") for c, cost in COST.items()]
    write_table(pd.DataFrame(rows, columns=CANDIDATES.names), workspace.candidates, CANDIDATES)
    scores = [
        (i, c, s, "clip_score", "1", q + noise * rng.standard_normal())
        for i, t in zip(ids, texts, strict=True)
        for c, q in zip(COST, QUALITY[t.split()[0]], strict=True)
        for s in (0, 1)
    ]
    write_table(pd.DataFrame(scores, columns=SCORES.names), workspace.scores, SCORES)


def build(root: Path, pool: str = "miniature", **settings: object) -> tuple[Workspace, Params]:
    """Tables, a gate that passed, and what train and calibrate make of them with ridge."""
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
