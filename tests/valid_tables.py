"""Small tables that pass the checks of the stage validate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from catimage.data.prompts.identity import prompt_id, splits_of
from catimage.data.schema import CANDIDATES, SCORES
from catimage.encoders.embeddings import Embeddings


def prompt_text(i: int) -> str:
    """Return the text of prompt ``i``."""
    return f"a scene number {i}"


def id_of_prompt(i: int) -> str:
    """Return the identifier of prompt ``i``."""
    return prompt_id(prompt_text(i))


def valid_tables(n: int = 40) -> dict[str, Any]:
    """Return the tables prompts, candidates, scores and embeddings of ``n`` prompts, by name.

    The tables have two candidates with costs in two units, two seeds and two metrics.
    """
    ids = [id_of_prompt(i) for i in range(n)]
    texts = [prompt_text(i) for i in range(n)]
    prompts = pd.DataFrame(
        {
            "prompt_id": ids,
            "prompt": texts,
            "source": "scenes",
            "split": splits_of(texts, 0.1),
        }
    )
    candidates = [
        (f"mini-{steps}", "mini", steps, steps * cost, unit)
        for unit, cost in (("tflops", 0.1), ("seconds", 2.0))
        for steps in (1, 2)
    ]
    scores = [
        (identifier, candidate, seed, metric, "1", 0.25 + seed / 100)
        for identifier in ids
        for candidate in ("mini-1", "mini-2")
        for seed in (0, 1)
        for metric in ("clip_score", "sharpness")
    ]
    return {
        "prompts": prompts,
        "candidates": pd.DataFrame(candidates, columns=CANDIDATES.names),
        "scores": pd.DataFrame(scores, columns=SCORES.names),
        "embeddings": distinct_embeddings(ids),
    }


def distinct_embeddings(ids: list[str], encoder: str = "tiny") -> Embeddings:
    """Return embeddings of one token per prompt, all of them different.

    Args:
        ids: the ids of the prompts.
        encoder: the name of the text encoder.
    """
    n = len(ids)
    return Embeddings(
        prompt_ids=ids,
        pooled=np.eye(n, dtype=np.float32),
        layers=np.zeros((n, 1, 1), np.float16),
        tokens=np.zeros((n, 1), np.float16),
        offsets=np.arange(n + 1),
        cut=np.zeros(n, bool),
        encoder=encoder,
    )
