"""Generates the images of a pool in shards, and measures costs.

A shard is a parquet file of images. Shards of an earlier run are reused if their plan has not
changed and their file is undamaged, so a run can be interrupted at any time. If the prompts or the
seeds have changed, images of earlier shards are copied, and only new images are generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import pandas as pd

from catimage.data.schema import CANDIDATES
from catimage.data.shards.blocks import PromptBlock, plan_blocks
from catimage.data.shards.manifest import ShardEntry
from catimage.data.shards.plan import EarlierShard, PlannedCandidate, Prompt, ShardPlan
from catimage.data.shards.reuse import EarlierImages, earlier_shards
from catimage.data.shards.store import read_refusals
from catimage.errors import InputError
from catimage.execution.local import LocalExecutor
from catimage.params import GenerateParams
from catimage.pool.costs import all_costs, candidates_without_cost, is_counted
from catimage.pool.counted_costs import CountedCosts
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.image_code import image_code
from catimage.pool.measure import EnergyMeter, energy_meter, measured_costs, recorded_costs
from catimage.pool.refusal_report import report_refusals
from catimage.pool.regeneration import print_regenerated
from catimage.pool.registry import candidate_definitions, kind_class
from catimage.pool.shard_generation import write_block
from catimage.pool.spec import Candidate, Pool

MEASURED_UNITS = ("seconds", "wh")
"""Cost units that are measured during generation.

Only the unit in ``cost_unit`` is measured, since timings differ between runs.
"""


@dataclass(frozen=True)
class GeneratedImages:
    """The result of :func:`generate_images`.

    Attributes:
        entries: the manifest entries (name, candidate, images and digest) of all shards.
        candidates: the candidates table. Measured costs are additional rows.
    """

    entries: list[ShardEntry]
    candidates: pd.DataFrame


def generate_images(
    pool: Pool,
    prompts: Sequence[Prompt],
    folder: Path,
    settings: GenerateParams,
    cost_unit: str,
    counts: Path | None = None,
) -> GeneratedImages:
    """Generate the missing images of every prompt, candidate and seed.

    Every generator is checked before the first image is generated. Generators are loaded one after
    the other. The caller writes the manifest, which lists the shards.

    Args:
        pool: the pool.
        prompts: pairs of ``prompt_id`` and text.
        folder: the folder of the shards.
        settings: the section ``generate`` of params.yaml.
        cost_unit: the unit of the router's costs; ``seconds`` and ``wh`` are measured.
        counts: a file of counted costs, which are used again; None to count the costs.

    Raises:
        InputError: weights, classes or the device are unavailable, or a candidate has no cost in
            ``cost_unit``.
    """
    meter = check_cost_unit(pool, cost_unit, settings.device)
    planned = planned_candidates(pool)
    costs = candidates_table(pool, CountedCosts(counts, planned) if counts else None)
    folder.mkdir(parents=True, exist_ok=True)
    earlier = earlier_shards(folder)
    blocks = _planned_blocks(planned, prompts, settings, earlier)
    unit = cost_unit if cost_unit in MEASURED_UNITS else None
    images = EarlierImages(folder, earlier)
    entries, measured = _generate_blocks(pool, blocks, images, settings, unit, meter)
    report_refusals(entries)
    if unit == "seconds":
        measured.append(recorded_costs(pool, folder, entries))
    rows = [row for row in measured if len(row)]
    return GeneratedImages(entries, pd.concat([costs, *rows]) if rows else costs)


def candidates_table(pool: Pool, known: CountedCosts | None = None) -> pd.DataFrame:
    """Return the candidates table of a pool: counted TFLOPs and the costs in the pool file.

    Args:
        pool: the pool.
        known: counted costs of earlier runs, to which new counts are added.
    """
    table = all_costs(pool, known=known)[list(CANDIDATES.names)]
    if known:
        known.save()
    return table


def planned_candidates(pool: Pool) -> list[PlannedCandidate]:
    """Return the candidates of a pool with the definitions of their images, grouped by generator.

    Raises:
        InputError: the weights of a generator are unavailable.
    """
    definitions = candidate_definitions(pool)
    return [
        PlannedCandidate(
            c.candidate,
            generator,
            c.steps,
            definitions[c.candidate],
            image_code(spec.kind),
            kind_class(spec.kind).remote,
        )
        for generator, spec in pool.generators.items()
        for c in pool.candidates_of(generator)
    ]


def _planned_blocks(
    planned: list[PlannedCandidate],
    prompts: Sequence[Prompt],
    settings: GenerateParams,
    earlier: Sequence[EarlierShard],
) -> list[PromptBlock]:
    """Return the blocks of all images, of the given and of earlier shards."""
    batch_size, shard_images = settings.batch_size, settings.shard_images
    return plan_blocks(planned, prompts, settings.seeds, batch_size, shard_images, earlier)


def check_cost_unit(pool: Pool, unit: str, device: str) -> EnergyMeter | None:
    """Check that every candidate will have a cost in ``unit``, before images are generated.

    Returns:
        The energy meter if ``unit`` is watt-hours and the device has one.

    Raises:
        InputError: a candidate has no cost in ``unit``, and the cost cannot be measured here.
    """
    meter = energy_meter(device) if unit == "wh" else None
    missing = [
        name
        for name in candidates_without_cost(pool, unit)
        if not _is_measurable(pool, pool.candidate(name), unit, meter)
    ]
    if missing:
        reason = (
            ", and the cost cannot be measured, because NVML does not report GPU energy on this"
            " machine"
            if unit == "wh"
            else ""
        )
        raise InputError(
            f"{pool.file}: the candidate {missing[0]!r} has no cost in {unit!r}, the cost_unit of"
            f" params.yaml{reason}. Add one in the pool file, or change cost_unit."
        )
    return meter


def _is_measurable(pool: Pool, candidate: Candidate, unit: str, meter: EnergyMeter | None) -> bool:
    """Return whether the cost can be measured.

    Seconds are measured for any candidate, watt-hours for candidates that run on this machine.
    """
    return unit == "seconds" or (meter is not None and is_counted(pool, candidate))


def _generate_blocks(
    pool: Pool,
    blocks: Sequence[PromptBlock],
    images: EarlierImages,
    settings: GenerateParams,
    unit: str | None,
    meter: EnergyMeter | None,
) -> tuple[list[ShardEntry], list[pd.DataFrame]]:
    """Generate the unfinished shards; return the entries of all shards and the measured costs."""
    plans, skip = [plan for block in blocks for plan in block.plans], settings.on_refusal == "skip"
    finished_digest = partial(images.finished_digest, skip_refusals=skip)
    digests = {plan.name: digest for plan in plans if (digest := finished_digest(plan))}
    print_regenerated((plan for plan in plans if plan.name not in digests), images.shards)
    unfinished = {
        name: _unfinished_blocks(list(group), digests)
        for name, group in groupby(blocks, lambda b: b.generator)
    }
    to_measure = _generators_to_measure(pool) if unit else []
    used = [name for name, remaining in unfinished.items() if remaining or name in to_measure]
    cache = GeneratorCache(pool, settings.device, used)
    cache.prepare()
    measured: list[pd.DataFrame] = []
    finished = sum(plan.image_count for plan in plans if plan.name in digests)
    with LocalExecutor("generate", sum(plan.image_count for plan in plans), finished) as executor:
        for name in cache.names:
            generator = cache.get(name)
            write = partial(write_block, pool, generator, images, skip)
            for block_digests in executor.map(write, unfinished[name]):
                digests |= block_digests
            if unit and name in to_measure:
                prompt = blocks[0].prompts[0][1]
                candidates = pool.candidates_of(name)
                measured.append(measured_costs(generator, candidates, prompt, unit, meter))
            cache.release(name)
    return [_entry(images.folder, plan, digests[plan.name]) for plan in plans], measured


def _generators_to_measure(pool: Pool) -> list[str]:
    """Return the generators on this computer; a measurement of others would be paid for."""
    return [name for name, spec in pool.generators.items() if not kind_class(spec.kind).remote]


def _entry(folder: Path, plan: ShardPlan, digest: str) -> ShardEntry:
    """Return the manifest entry of a finished shard."""
    refused = len(read_refusals(folder, plan.name))
    return ShardEntry(plan.name, plan.candidate, plan.image_count - refused, digest, refused)


def _unfinished_blocks(
    blocks: Sequence[PromptBlock], finished: dict[str, str]
) -> list[PromptBlock]:
    """Return the blocks that have unfinished shards, reduced to the plans of these shards."""
    reduced = (
        replace(block, plans=tuple(plan for plan in block.plans if plan.name not in finished))
        for block in blocks
    )
    return [block for block in reduced if block.plans]
