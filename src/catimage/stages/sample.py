"""Stage sample: prompts from their sources, those that differ, split by hash, with their
embeddings.
"""

from __future__ import annotations

from contextlib import ExitStack

import pandas as pd

from catimage.data.prompts.diversity import diverse
from catimage.data.prompts.identity import prompt_id, splits_of
from catimage.data.prompts.sources import Sourced, read_source
from catimage.data.schema import PROMPTS, SPLITS, write_table
from catimage.encoders.embeddings import Embeddings
from catimage.encoders.loading import load_encoder
from catimage.errors import InputError
from catimage.params import Params
from catimage.workspace import Workspace, replacing

FEWEST = 10
"""Prompts below which nothing can be learned, and a mistake is more likely."""


def run(workspace: Workspace, params: Params) -> None:
    """Writes ``data/prompts.parquet`` and, for the prompts kept, ``data/embeddings/<encoder>/``.

    Of prompts that are equal or too near each other, the first in the order of the sources stays.

    Raises:
        InputError: see :func:`catimage.data.prompts.sources.read_source` and
            :func:`catimage.encoders.loading.load_encoder`; too few prompts are kept, or none in a split; or
            the workspace was imported.
    """
    params.check_not_imported("sample")
    sources = [
        read_source(source, workspace.root, params.sample.max_prompt_length)
        for source in params.sample.sources
    ]
    prompts = _distinct(sources)
    if prompts.empty:
        raise InputError(
            "sample.sources: every prompt is longer than sample.max_prompt_length"
            f" ({params.sample.max_prompt_length})."
        )
    embeddings = load_encoder(params.encoder).encode(prompts["prompt"].tolist(), progress=True)
    kept = diverse(embeddings.pooled, params.sample.max_similarity, progress=True)
    prompts = prompts.iloc[kept].reset_index(drop=True)
    prompts = prompts.assign(split=splits_of(prompts["prompt"]))
    embeddings = embeddings.take(prompts["prompt_id"].tolist())
    _report(sources, prompts, embeddings, params.sample.max_similarity)
    _check(prompts)
    with (
        ExitStack() as stack
    ):  # both, or where one cannot be written, none; embeddings of another encoder would be of other prompts
        write_table(prompts, stack.enter_context(replacing(workspace.prompts)), PROMPTS)
        folder = workspace.embeddings(embeddings.encoder)
        embeddings.save(stack.enter_context(replacing(folder.parent)) / folder.name)


def _distinct(sources: list[Sourced]) -> pd.DataFrame:
    """The table of prompts, not split yet; one that two sources have belongs to the first."""
    rows = [
        (prompt_id(prompt), prompt, source.name) for source in sources for prompt in source.prompts
    ]
    return pd.DataFrame(rows, columns=["prompt_id", "prompt", "source"]).drop_duplicates(
        "prompt_id", ignore_index=True
    )


def _report(
    sources: list[Sourced], prompts: pd.DataFrame, embeddings: Embeddings, threshold: float
) -> None:
    kept = prompts["source"].value_counts()
    for name in dict.fromkeys(s.name for s in sources):
        read, long = (
            sum(getattr(s, count) for s in sources if s.name == name)
            for count in ("read", "too_long")
        )
        left_out = f", {long:,} too long" if long else ""
        print(f"sample: {name}: {read:,} read{left_out}, {kept.get(name, 0):,} kept", flush=True)
    splits = ", ".join(f"{(prompts['split'] == s).sum():,} {s}" for s in SPLITS)
    cut = (
        f"; {embeddings.truncated:,} longer than the encoder's context, cut"
        if embeddings.truncated
        else ""
    )
    print(
        f"sample: {len(prompts):,} prompts below a similarity of {threshold} to each other:"
        f" {splits}{cut}",
        flush=True,
    )


def _check(prompts: pd.DataFrame) -> None:
    if len(prompts) < FEWEST:
        raise InputError(
            f"sample: {len(prompts)} prompts are kept, fewer than {FEWEST}: add sources, or raise"
            " sample.max_similarity."
        )
    for split in SPLITS:
        if split not in set(prompts["split"]):
            raise InputError(
                f"sample: of {len(prompts)} prompts kept none falls into the {split} split: add"
                " prompts (100 or more)."
            )
