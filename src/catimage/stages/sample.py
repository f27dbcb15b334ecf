"""Stage sample: select diverse prompts from several sources, and compute their embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from catimage.common.transaction import written_together
from catimage.data.prompts.diversity import select_diverse
from catimage.data.prompts.identity import prompt_id, required_splits, splits_of
from catimage.data.prompts.sources import SourcePrompts, read_source
from catimage.data.schema import PROMPTS, write_table
from catimage.encoders.embeddings import Embeddings
from catimage.encoders.loading import load_encoder
from catimage.errors import InputError
from catimage.params import Params, SampleParams
from catimage.workspace import Workspace

MIN_PROMPTS = 10
"""The minimum number of prompts that must be kept."""


def run(workspace: Workspace, params: Params) -> None:
    """Write ``data/prompts.parquet`` and ``data/embeddings/<encoder>/``.

    Of prompts that are equal or too similar (``sample.max_similarity``), the first prompt in the
    order of the sources is kept.

    Raises:
        InputError: a source or the text encoder cannot be read, too few prompts are kept, a split
            has no prompts, or the data were imported.
    """
    params.check_not_imported("sample")
    settings = params.sample
    sources = [
        read_source(source, workspace.root, settings.max_prompt_length)
        for source in settings.sources
    ]
    prompts = _merge(sources)
    if prompts.empty:
        raise InputError(
            "params.yaml: sample.sources: every prompt is longer than sample.max_prompt_length"
            f" ({settings.max_prompt_length}). Raise it, or add sources."
        )
    embeddings = load_encoder(params.encoder).encode(prompts["prompt"].tolist(), progress=True)
    kept = select_diverse(embeddings.pooled, settings.max_similarity, progress=True)
    prompts = prompts.iloc[kept].reset_index(drop=True)
    prompts = prompts.assign(split=splits_of(prompts["prompt"], settings.gate_share))
    embeddings = embeddings.take(prompts["prompt_id"].tolist())
    _print_summary(sources, prompts, embeddings, settings)
    _check_size(prompts, settings.gate_share)
    _write(workspace, prompts, embeddings)


def _merge(sources: Sequence[SourcePrompts]) -> pd.DataFrame:
    """Return the distinct prompts of all sources, each with the name of its first source."""
    rows = [
        (prompt_id(prompt), prompt, source.name) for source in sources for prompt in source.prompts
    ]
    table = pd.DataFrame(rows, columns=["prompt_id", "prompt", "source"])
    return table.drop_duplicates("prompt_id", ignore_index=True)


def _print_summary(
    sources: Sequence[SourcePrompts],
    prompts: pd.DataFrame,
    embeddings: Embeddings,
    settings: SampleParams,
) -> None:
    kept = prompts["source"].value_counts()
    for name in dict.fromkeys(source.name for source in sources):
        same_name = [source for source in sources if source.name == name]
        n_too_long = sum(source.n_too_long for source in same_name)
        print(
            f"sample: {name}: {sum(source.n_read for source in same_name):,} read"
            f"{f', {n_too_long:,} too long' if n_too_long else ''}, {kept.get(name, 0):,} kept",
            flush=True,
        )
    splits = ", ".join(
        f"{(prompts['split'] == split).sum():,} {split}"
        for split in required_splits(settings.gate_share)
    )
    truncated = (
        f"; {embeddings.truncated:,} truncated to the context length of the encoder"
        if embeddings.truncated
        else ""
    )
    print(
        f"sample: {len(prompts):,} prompts with similarities below {settings.max_similarity}:"
        f" {splits}{truncated}",
        flush=True,
    )


def _check_size(prompts: pd.DataFrame, gate_share: float) -> None:
    if len(prompts) < MIN_PROMPTS:
        raise InputError(
            f"params.yaml: sample: {len(prompts)} prompts are kept, fewer than {MIN_PROMPTS}. Add"
            " sources, or raise sample.max_similarity."
        )
    for split in required_splits(gate_share):
        if split not in set(prompts["split"]):
            fix = ", or set sample.gate_share to 0" if split == "gate" else ""
            raise InputError(
                f"params.yaml: sample: none of the {len(prompts)} prompts is in the {split} split."
                f" Add prompts: about 100 are needed{fix}."
            )


def _write(workspace: Workspace, prompts: pd.DataFrame, embeddings: Embeddings) -> None:
    """Replace the prompts and the embeddings, or neither if an error occurs.

    The embeddings of other encoders are deleted, since they belong to the previous prompts.
    """
    folder = workspace.embeddings(embeddings.encoder)
    targets = (workspace.prompts, folder.parent)
    with written_together(workspace.root, targets) as new:
        write_table(prompts, new[workspace.prompts], PROMPTS)
        embeddings.save(new[folder.parent] / folder.name)
