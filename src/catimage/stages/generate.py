"""Stage generate: every prompt x candidate x seed of the pool, in shards, by DESIGN's
plan-and-commit protocol.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from catimage.data.schema import CANDIDATES, IMAGES, PROMPTS, read_table, write_table
from catimage.data.shards.lock import writing
from catimage.data.shards.manifest import Entry, collect, write_manifest
from catimage.data.shards.plan import Block, ShardPlan, plan_blocks
from catimage.data.shards.store import DamagedShard, encode_image, read_shard, write_shard
from catimage.errors import InputError
from catimage.params import Params
from catimage.pool.costs import all_costs, lacking
from catimage.pool.generator_cache import OpenPool
from catimage.pool.measure import EnergyMeter, energy_meter, measure
from catimage.pool.pool import Pool, load_pool
from catimage.pool.spec import Candidate, Generator
from catimage.workspace import Workspace


def run(workspace: Workspace, params: Params) -> None:
    """Makes what is missing of the pool's images, then ``data/candidates.parquet``, and last the
    manifest.

    Finished shards of an earlier run, killed or not, are taken as they are once they have been read
    and checked. Only a run that comes to its end replaces the manifest and deletes shards that are
    no longer planned.

    Raises:
        InputError: prompts, pool or weights are missing or wrong, the workspace was imported, or
            another process is generating here.
    """
    params.check_not_imported("generate")
    pool = load_pool(params.pool, workspace.pools)
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    if prompts.empty:
        raise InputError(f"{workspace.prompts} holds no prompts: give stage sample other sources.")
    meter = check_unit(pool, params.cost_unit, params.generate.device)
    with writing(workspace.images):
        costs = candidates_table(pool)
        identities = {name: spec.identity(pool.folder) for name, spec in pool.generators.items()}
        definitions = {
            c.candidate: pool.generators[c.generator].definition(c, identities[c.generator])
            for c in pool.candidates
        }
        pairs = list(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
        asked = params.generate
        blocks = plan_blocks(pool, definitions, pairs, asked.seeds, asked.batch, asked.shard_images)
        workspace.images.mkdir(parents=True, exist_ok=True)
        unit = params.cost_unit if params.cost_unit in ("seconds", "wh") else None
        entries, measured = make_all(pool, blocks, workspace.images, asked.device, unit, meter)
        write_table(
            pd.concat([costs, measured]) if len(measured) else costs,
            workspace.candidates,
            CANDIDATES,
        )
        write_manifest(workspace.images, entries)
        collect(workspace.images, entries)


def candidates_table(pool: Pool) -> pd.DataFrame:
    """The candidates table: TFLOPs as counted (or as the pool says), and the pool's costs in other
    units.
    """
    return all_costs(pool)[list(CANDIDATES.names)]


def check_unit(pool: Pool, unit: str, device: str) -> EnergyMeter | None:
    """Before hours of generation: the unit that is routed on will have a cost for every candidate.
    Returns the meter for watt-hours.
    """
    meter = energy_meter(device) if unit == "wh" else None
    without = [c for c in lacking(pool, unit) if not _measurable(pool, c, unit, meter)]
    if without:
        why = (
            "; they are measured where NVML counts a GPU's energy, which it does not here"
            if unit == "wh"
            else ""
        )
        what = (
            f"the candidate {without[0]!r} has no cost in {unit!r}, which is params.yaml's"
            " cost_unit"
        )
        raise InputError(f"{pool.file}: {what}; add one{why}.")
    return meter


def _measurable(pool: Pool, candidate: str, unit: str, meter: EnergyMeter | None) -> bool:
    """Seconds of any candidate; watt-hours of those that are made on this machine."""
    made_here = pool.generators[pool.candidate(candidate).generator].counted
    return unit == "seconds" or (meter is not None and made_here)


def make_all(
    pool: Pool,
    blocks: list[Block],
    folder: Path,
    device: str,
    unit: str | None,
    meter: EnergyMeter | None,
) -> tuple[list[Entry], pd.DataFrame]:
    """Makes the shards that are not there; returns all of them, and what is measured where ``unit``
    is a unit that is.

    Every generator is checked before the first image is made; they are opened one after the other,
    in the order of the blocks.
    """
    plans = [plan for block in blocks for plan in block.plans]
    digests = {plan.name: digest for plan in plans if (digest := _kept(folder, plan)) is not None}
    there = sum(plan.images for plan in plans if plan.name in digests)
    missing = {
        name: _missing(own, digests) for name, own in groupby(blocks, lambda block: block.generator)
    }
    opened = OpenPool(pool, device, [name for name, own in missing.items() if own or unit])
    opened.prepare()
    measured: list[pd.DataFrame] = []
    with tqdm(
        total=sum(plan.images for plan in plans), initial=there, unit="image", desc="generate"
    ) as bar:
        for name in opened.wanted:
            digests |= _make(opened.generator(name), pool, missing[name], folder, bar.update)
            if unit:
                measured.append(
                    _measured(
                        opened.generator(name), pool, name, blocks[0].prompts[0][1], unit, meter
                    )
                )
            opened.close(name)
    entries = [Entry(p.name, p.candidate, p.images, digests[p.name]) for p in plans]
    return entries, pd.concat(measured) if measured else pd.DataFrame()


def _missing(
    blocks: Iterable[Block], digests: Mapping[str, str]
) -> list[tuple[Block, list[ShardPlan]]]:
    """The blocks that are not finished, each with its plans that are not there."""
    return [
        (block, rest)
        for block in blocks
        if (rest := [p for p in block.plans if p.name not in digests])
    ]


def _make(
    generator: Generator,
    pool: Pool,
    missing: list[tuple[Block, list[ShardPlan]]],
    folder: Path,
    progress: Callable[[int], Any],
) -> dict[str, str]:
    """Makes one generator's missing shards, text encoded once a block of prompts; returns their
    digests by name.
    """
    digests = {}
    for block, plans in missing:
        encoded = generator.encode([text for _, text in block.prompts])
        for plan in plans:
            digests[plan.name] = make_shard(
                generator, pool.candidate(plan.candidate), plan, encoded, folder, progress
            )
    return digests


def _kept(folder: Path, plan: ShardPlan) -> str | None:
    """The image digest of a finished shard; None, with a warning where it is damaged, if it is to
    be made.
    """
    try:
        rows, digest = read_shard(folder, plan.name)
    except FileNotFoundError:
        return None
    except DamagedShard as error:
        print(
            f"warning: the shard {plan.name} in {folder} is damaged and is made again: {error}",
            file=sys.stderr,
            flush=True,
        )
        return None
    return digest if rows.num_rows == plan.images else None


def make_shard(
    generator: Generator,
    candidate: Candidate,
    plan: ShardPlan,
    encoded: Any,
    folder: Path,
    progress: Callable[[int], Any],
) -> str:
    """Makes and writes the images of one plan; returns their digest. ``progress`` is called with
    the images of each batch.
    """
    columns: dict[str, list[Any]] = {name: [] for name in IMAGES.names}
    for batch in plan.batches():
        identifiers, texts, seeds = (list(column) for column in zip(*batch, strict=True))
        start = time.perf_counter()
        images = generator.generate(texts, candidate, seeds, encoded)
        columns["seconds"] += [(time.perf_counter() - start) / len(batch)] * len(batch)
        columns["prompt_id"] += identifiers
        columns["candidate"] += [plan.candidate] * len(batch)
        columns["seed"] += seeds
        columns["image"] += [encode_image(image) for image in images]
        progress(len(batch))
    return write_shard(folder, plan, pa.table(columns, schema=IMAGES))


def _measured(
    generator: Generator, pool: Pool, name: str, prompt: str, unit: str, meter: EnergyMeter | None
) -> pd.DataFrame:
    """Median seconds or watt-hours of one image by itself, text encoding included: what a request
    waits for, or takes.

    Measured afresh by every run in which ``cost_unit`` is one of the two, and only then, since two
    measurements never agree.
    """
    asked = [c for c in pool.candidates_of(name) if not (c.unit == unit and c.cost is not None)]
    return pd.DataFrame(
        [
            {
                **c.row(),
                "cost": getattr(measure(generator, c, prompt, meter=meter), unit),
                "unit": unit,
            }
            for c in asked
        ]
    )
