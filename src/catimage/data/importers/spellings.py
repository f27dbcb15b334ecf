"""Merging of prompts that differ only in case, punctuation or white space."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.data.importers.columns import abbreviated
from catimage.data.prompts.identity import folded

KEYS = ["prompt_id", "candidate", "seed", "metric"]
"""The columns that identify a score."""


def merge_spellings(
    path: Path, prompts: pd.DataFrame, scores: pd.DataFrame, known: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Replace prompts that are spellings of one text by the first of them, with all their scores.

    Different spellings have different images. Their scores are therefore pooled: if two spellings
    have a score of the same candidate and seed, the scores of the later spelling become scores of
    further seeds, which are hashes of the seed and the spelling. The label, the mean over the
    seeds, is then the mean of the scores of all spellings.

    Args:
        path: the file, for the message.
        prompts: the prompts of the file (``ImportedFile.prompts``).
        scores: the scores of the file.
        known: the prompts of a workspace, whose spellings take precedence; by default, none.

    Returns:
        The prompts, the scores, and a message if prompts of the file were merged.
    """
    spelling = _spellings(prompts, known)
    if not spelling:
        return prompts, scores, []
    texts = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    table = _with_spelling(scores, spelling)
    if known is not None:
        texts |= dict(zip(known["prompt_id"], known["prompt"], strict=True))
    ids = [spelling.get(identifier, identifier) for identifier in prompts["prompt_id"]]
    renamed = prompts.assign(prompt_id=ids, prompt=[texts[i] for i in ids])
    merged = renamed.drop_duplicates("prompt_id", ignore_index=True)
    count = len(prompts) - len(merged)
    if not count:
        return merged, table, []
    later, first = next((a, b) for a, b in spelling.items() if ids.count(b) > 1)
    note = (
        f"{path}: {count:,} {'prompts differ' if count > 1 else 'prompt differs'} from another"
        " prompt of the file only in case or punctuation and"
        f" {'are' if count > 1 else 'is'} merged with it, such as {abbreviated(texts[later])!r}"
        f" with {abbreviated(texts[first])!r}."
    )
    return merged, table, [note]


def _spellings(prompts: pd.DataFrame, known: pd.DataFrame | None) -> dict[str, str]:
    """Return, by ``prompt_id`` of each prompt to replace, the id of the prompt that replaces it."""
    first: dict[str, str] = {}
    for table in (known, prompts):
        if table is not None:
            for identifier, text in zip(table["prompt_id"], table["prompt"], strict=True):
                first.setdefault(folded(text), identifier)
    kept = set(known["prompt_id"]) if known is not None else set()
    return {
        identifier: first[form]
        for identifier, form in zip(
            prompts["prompt_id"], map(folded, prompts["prompt"]), strict=True
        )
        if first[form] != identifier and identifier not in kept
    }


def _with_spelling(scores: pd.DataFrame, spelling: dict[str, str]) -> pd.DataFrame:
    """Replace the ids of the prompts, and the seeds of later spellings where scores collide."""
    replaced = scores["prompt_id"].isin(list(spelling)).to_numpy()
    ids = scores.loc[replaced, "prompt_id"]
    table = scores.copy()
    table.loc[replaced, "prompt_id"] = ids.map(spelling)
    collisions = set(table.loc[table.duplicated(KEYS), "prompt_id"])
    further = replaced & table["prompt_id"].isin(collisions).to_numpy()
    table.loc[further, "seed"] = np.array(
        [
            _further_seed(identifier, seed)
            for identifier, seed in zip(
                scores.loc[further, "prompt_id"], scores.loc[further, "seed"], strict=True
            )
        ],
        np.int64,
    )
    return table


def _further_seed(identifier: str, seed: int) -> int:
    """Return a seed that is a hash of a seed and of the id of a spelling."""
    digest = hashlib.sha256(f"{identifier}:{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
