"""Small tables in order, as the pool would make them: what the gate lets through."""

import numpy as np
import pandas as pd

from catimage.data.prompts.identity import prompt_id, split_of
from catimage.data.schema import CANDIDATES, SCORES
from catimage.encoders.embeddings import Embeddings


def of(i):
    """The identifier of prompt i."""
    return prompt_id(f"a scene number {i}")


def tables(n=40):
    texts = [f"a scene number {i}" for i in range(n)]
    ids = [prompt_id(t) for t in texts]
    prompts = pd.DataFrame(
        {"prompt_id": ids, "prompt": texts, "source": "scenes", "split": [split_of(i) for i in ids]}
    )
    candidates = pd.DataFrame(
        [
            (f"mini-{k}", "mini", k, k * w, unit)
            for unit, w in (("tflops", 0.1), ("seconds", 2.0))
            for k in (1, 2)
        ],
        columns=CANDIDATES.names,
    )
    rows = [
        (i, c, s, m, "1", 0.25 + s / 100)
        for i in ids
        for c in ("mini-1", "mini-2")
        for s in (0, 1)
        for m in ("clip_score", "sharpness")
    ]
    pooled = np.eye(n, dtype=np.float32)
    embeddings = Embeddings(
        ids,
        pooled,
        np.zeros((n, 1, 1), np.float16),
        np.zeros((n, 1), np.float16),
        np.arange(n + 1),
        np.zeros(n, bool),
        "tiny",
    )
    return {
        "prompts": prompts,
        "candidates": candidates,
        "scores": pd.DataFrame(rows, columns=SCORES.names),
        "embeddings": embeddings,
    }
