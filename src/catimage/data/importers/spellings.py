"""Merging of prompts that differ only in case, punctuation or white space."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.common.arrays import Ints
from catimage.data.importers.columns import PromptTexts, abbreviated, repeated
from catimage.data.prompts.identity import folded


def merge_spellings(
    path: Path, prompts: PromptTexts, rows: pd.DataFrame, known: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Replace texts that are spellings of one prompt by the first of them.

    Different spellings have different images. Their scores or images are therefore pooled: if two
    spellings have one of the same candidate and seed, those of the later spelling get further
    seeds, which are hashes of the seed and the spelling. The label, the mean over the seeds, is
    then the mean of the scores of all spellings.

    Args:
        path: the file, for the message.
        prompts: the prompts of the file.
        rows: the scores or images of the file, with the columns ``text`` (the position of the
            text), ``candidate``, ``seed`` and, for scores, ``metric``.
        known: the prompts of a workspace, whose spellings take precedence; by default, none.

    Returns:
        The prompts (``ImportedFile.prompts``); the rows, with ``prompt_id`` instead of ``text``;
        and a message if prompts of the file were merged.
    """
    ids, merged_texts = _merge(prompts, known)
    codes = rows["text"].to_numpy()
    table = rows.drop(columns="text").assign(prompt_id=repeated(ids, codes))
    merged = replace(prompts, ids=ids, prompts=merged_texts).table()
    count = len(prompts.texts) - len(merged)
    if not count:
        return merged, table, []
    first_code = {identifier: code for code, identifier in reversed([*enumerate(ids)])}
    later = np.array([first_code[identifier] != code for code, identifier in enumerate(ids)])
    _renumber(table, later[codes], prompts.texts, codes)
    position = int(later.argmax())
    note = (
        f"{path}: {count:,} {'prompts differ' if count > 1 else 'prompt differs'} from another"
        " prompt of the file only in case, punctuation or white space and"
        f" {'are' if count > 1 else 'is'} merged with it, such as"
        f" {abbreviated(prompts.texts[position])!r} with"
        f" {abbreviated(prompts.texts[first_code[ids[position]]])!r}."
    )
    return merged, table, [note]


def _merge(prompts: PromptTexts, known: pd.DataFrame | None) -> tuple[list[str], list[str]]:
    """Return the id and the text of the prompt that replaces each text of the file."""
    known_texts: dict[str, str] = {}
    if known is not None:
        known_texts = dict(zip(known["prompt_id"], known["prompt"], strict=True))
    first: dict[str, str] = {}
    for identifier, text in (*known_texts.items(), *zip(prompts.ids, prompts.prompts, strict=True)):
        first.setdefault(folded(text), identifier)
    ids = [
        identifier if identifier in known_texts else first[folded(text)]
        for identifier, text in zip(prompts.ids, prompts.prompts, strict=True)
    ]
    texts = dict(zip(prompts.ids, prompts.prompts, strict=True)) | known_texts
    return ids, [texts[identifier] for identifier in ids]


def _renumber(table: pd.DataFrame, later: Ints, texts: Sequence[str], codes: Ints) -> None:
    """Change the seeds of later spellings of the prompts for which scores collide, in place."""
    keys = [name for name in ("prompt_id", "candidate", "seed", "metric") if name in table]
    collisions = table.loc[table.duplicated(keys), "prompt_id"].unique()
    further = later & table["prompt_id"].isin(collisions).to_numpy()
    seeds = zip(codes[further], table.loc[further, "seed"], strict=True)
    table.loc[further, "seed"] = np.array(
        [_further_seed(texts[code], seed) for code, seed in seeds], np.int64
    )


def _further_seed(text: str, seed: int) -> int:
    """Return a seed that is a hash of a spelling and a seed."""
    digest = hashlib.sha256(f"{seed} {text}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
