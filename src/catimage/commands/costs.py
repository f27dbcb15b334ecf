"""``catimage costs``: counted and measured costs of the candidates of a pool."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from catimage.errors import InputError, nearest
from catimage.pool.costs import all_costs
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.kind import Convention
from catimage.pool.loading import load_pool
from catimage.pool.measure import energy_meter, measure
from catimage.pool.spec import Pool


def cost_rows(
    pool: str,
    workspace_pools: Path | None,
    convention: str = "full",
    repeats: int | None = None,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Return one row per candidate and unit.

    Args:
        pool: the name or file of a pool.
        workspace_pools: the folder of the workspace's pools.
        convention: ``full`` or ``paper``; see :func:`catimage.pool.costs.candidate_costs`.
        repeats: the number of images to measure per candidate; None for no measurement. Each image
            of a hosted candidate is paid for.
        device: the device of the measurement.

    Returns:
        Rows with ``candidate, generator, steps, cost, unit`` and the other columns of
        :func:`catimage.pool.costs.all_costs`, which are None for an explicit cost. With
        ``repeats``, the rows also have ``seconds, seconds_iqr, wh, wh_iqr``
        (:func:`catimage.pool.measure.measure`).

    Raises:
        InputError: the convention is unknown, the pool is invalid, or files are unavailable.
    """
    conventions = get_args(Convention)
    if convention not in conventions:
        raise InputError(
            f"--convention {convention!r}: unknown convention{nearest(convention, conventions)}."
            f" Use {' or '.join(conventions)}."
        )
    loaded_pool = load_pool(pool, workspace_pools)
    measured = _measurements(loaded_pool, repeats, device) if repeats else {}
    table = all_costs(loaded_pool, "paper" if convention == "paper" else "full").astype(object)
    rows = table.where(pd.notna(table), None).to_dict("records")
    return [
        {str(key): value for key, value in row.items()} | measured.get(row["candidate"], {})
        for row in rows
    ]


def _measurements(pool: Pool, repeats: int, device: str) -> dict[str, dict[str, Any]]:
    """Return the measured costs of one image by candidate; load one generator at a time."""
    cache, meter, rows = GeneratorCache(pool, device), energy_meter(device), {}
    cache.prepare()
    for name in cache.names:
        for candidate in pool.candidates_of(name):
            measured = measure(cache.get(name), candidate, repeats=repeats, meter=meter)
            rows[candidate.candidate] = asdict(measured)
        cache.release(name)
    return rows
