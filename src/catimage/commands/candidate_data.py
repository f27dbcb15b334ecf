"""A part of ``add-candidate``: where the scores and costs of a new candidate come from, a pool or
two files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from catimage.commands.import_scores import NO_UNIT
from catimage.commands.import_scores import candidates_table as imported_candidates
from catimage.data.importers.scores import parse_costs, parse_scores
from catimage.data.shards.lock import write_lock
from catimage.data.shards.manifest import ShardEntry, read_manifest
from catimage.errors import InputError, nearest
from catimage.metrics.labelling import Labeller, ShardFolder
from catimage.metrics.metric import MetricContext
from catimage.params import Params
from catimage.pool.candidate_images import images_of_pool
from catimage.pool.generation import generate_images
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from catimage.workspace import Workspace


@dataclass(frozen=True)
class Profile:
    """Of one candidate: ``costs`` and ``scores`` in the schemas of the tables, and the ``entries``
    of its shards.
    """

    costs: pd.DataFrame
    scores: pd.DataFrame
    entries: tuple[ShardEntry, ...] = ()


def of_the_pool(workspace: Workspace, params: Params, name: str, prompts: pd.DataFrame) -> Profile:
    """Makes and scores images of these prompts (rows of the prompts table) by candidate ``name`` of
    the pool, at all seeds.

    Images and scores that an earlier call has made are taken as they are. The manifest is left as
    it is.

    Raises:
        InputError: the pool has no such candidate, its generator cannot work, or a metric fails.
    """
    pool = load_pool(params.pool, workspace.pools)
    check_known(pool, name)
    pairs = list(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    with write_lock(workspace.images):
        result = generate_images(
            _only(pool, name), pairs, workspace.images, params.generate, params.cost_unit
        )
    scores = _scored(workspace, params, pool, result.entries, dict(pairs))
    return Profile(result.candidates, scores, tuple(result.entries))


def check_known(pool: Pool, name: str) -> None:
    """Raises InputError unless the pool has the candidate."""
    known = [c.candidate for c in pool.candidates]
    if name not in known:
        raise InputError(
            f"{pool.file}: no candidate is called {name!r}{nearest(name, known)}: add it to the"
            " pool first."
        )


def _only(pool: Pool, name: str) -> Pool:
    """The pool with this candidate alone."""
    candidate = pool.candidate(name)
    return pool.model_copy(
        update={
            "candidates": [candidate],
            "generators": {candidate.generator: pool.generators[candidate.generator]},
        }
    )


def _scored(
    workspace: Workspace,
    params: Params,
    pool: Pool,
    entries: list[ShardEntry],
    texts: dict[str, str],
) -> pd.DataFrame:
    images = replace(images_of_pool(pool), command="add-candidate")
    live = [*read_manifest(workspace.images), *entries]
    with write_lock(workspace.scores):
        labeller = Labeller(
            ShardFolder(workspace.images, live, texts, images),
            workspace.scores.with_name(".labels"),
            params.label,
            MetricContext(params.encoder, params.label.device, params.label.weights),
        )
        return pd.concat(list(labeller.tables(labeller.score(entries))), ignore_index=True)


def of_files(
    params: Params, name: str, prompts: pd.DataFrame, scores: Path, costs: Path | None
) -> Profile:
    """What two files say of a candidate, as ``import-scores`` reads them.

    Args:
        prompts: the workspace's table; the file may be of any of them.
        costs: may be left out where all candidates cost 1.

    Raises:
        InputError: see :mod:`catimage.data.importers.scores`; a candidate or a prompt that is not
            wanted, or no cost in ``params.cost_unit``.
    """
    file = parse_scores(scores)
    if name not in file.candidates:
        known = file.candidates
        raise InputError(
            f"{scores} has no scores of the candidate {name!r}{nearest(name, known)}; it has"
            f" {', '.join(known)}."
        )
    file.check_candidates([name], f"what is added ({name})")
    strange = file.prompts[~file.prompts["prompt_id"].isin(prompts["prompt_id"])]
    if len(strange):
        row = file.first_line("prompt_id", strange["prompt_id"].iloc[0])
        raise InputError(
            f"{scores}: row {row}: the workspace has no such prompt; only its own prompts can be"
            " scored, so remove the row."
        )
    return Profile(_costs(params, name, costs), file.scores)


def _costs(params: Params, name: str, path: Path | None) -> pd.DataFrame:
    if path is None:
        if params.cost_unit != NO_UNIT:
            raise InputError(
                f"--costs: say what {name!r} costs in {params.cost_unit!r}: a CSV with the columns"
                " candidate,cost,unit."
            )
        return imported_candidates(
            pd.DataFrame({"candidate": [name], "cost": 1.0, "unit": NO_UNIT})
        )
    prices = parse_costs(path)
    own: pd.DataFrame = prices[prices["candidate"] == name]
    if params.cost_unit not in set(own["unit"]):
        known: Sequence[str] = sorted(set(own["unit"]))
        there = f"it has {', '.join(known)}" if known else "it has none of it at all"
        raise InputError(
            f"{path}: no cost of {name!r} in the unit {params.cost_unit!r}: {there}; add a row."
        )
    return imported_candidates(own)
