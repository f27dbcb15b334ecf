"""A part of ``add-candidate``: where the scores and costs of a new candidate come from, a pool or
two files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from catimage.commands.import_scores import NO_UNIT
from catimage.commands.import_scores import candidates_table as imported_candidates
from catimage.data.importers.scores import parse_scores, parse_costs
from catimage.data.shards.lock import writing
from catimage.data.shards.manifest import Entry, read_manifest
from catimage.data.shards.plan import plan_blocks
from catimage.data.shards.references import References
from catimage.errors import InputError, nearest
from catimage.metrics import Context, declaration, get_metric, needed
from catimage.metrics.score_frames import score_frames
from catimage.params import Params
from catimage.pool.candidate_images import of_pool
from catimage.pool.pool import Pool, load_pool
from catimage.stages.generate import candidates_table, check_unit, make_all
from catimage.stages.label import Labeller
from catimage.workspace import Workspace


@dataclass(frozen=True)
class Profile:
    """Of one candidate: ``costs`` and ``scores`` in the schemas of the tables, and the ``entries``
    of its shards.
    """

    costs: pd.DataFrame
    scores: pd.DataFrame
    entries: tuple[Entry, ...] = ()


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
    only = _only(pool, name)
    meter = check_unit(only, params.cost_unit, params.generate.device)
    with writing(workspace.images):
        spec = only.generators[pool.candidate(name).generator]
        definitions = {name: spec.definition(pool.candidate(name), spec.identity(pool.folder))}
        pairs = list(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
        asked = params.generate
        blocks = plan_blocks(only, definitions, pairs, asked.seeds, asked.batch, asked.shard_images)
        unit = params.cost_unit if params.cost_unit in ("seconds", "wh") else None
        entries, measured = make_all(only, blocks, workspace.images, asked.device, unit, meter)
    costs = candidates_table(only)
    scores = _scored(workspace, params, pool, entries, dict(pairs))
    return Profile(pd.concat([costs, measured]) if len(measured) else costs, scores, tuple(entries))


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
    workspace: Workspace, params: Params, pool: Pool, entries: list[Entry], texts: dict[str, str]
) -> pd.DataFrame:
    choices, wanted = of_pool(pool), list(dict.fromkeys(params.label.metrics))
    scored = needed(wanted, params)
    for metric in scored:
        if declaration(metric, params).needs_reference:
            choices.check_references(metric)
    with writing(workspace.scores):
        context = Context(params.encoder, params.label.device, params.label.weights)
        metrics = [get_metric(metric, context=context) for metric in scored]
        references = References(
            workspace.images, [*read_manifest(workspace.images), *entries], choices.references
        )
        cache = workspace.scores.with_name(".labels")
        labeller = Labeller(
            workspace.images, cache, texts, metrics, references, params.label, "add-candidate"
        )
        values = {entry: labeller.label(entry) for entry in entries}
        return pd.concat(
            list(score_frames(workspace.images, values, metrics, wanted, params)), ignore_index=True
        )


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
