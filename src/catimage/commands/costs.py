"""What ``catimage costs`` prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from catimage.errors import InputError, nearest
from catimage.pool.costs import all_costs
from catimage.pool.generator_cache import OpenPool
from catimage.pool.measure import energy_meter, measure
from catimage.pool.pool import Pool, load_pool
from catimage.pool.spec import Convention


def cost_rows(
    pool: str,
    workspace_pools: Path | None,
    convention: str = "full",
    repeats: int | None = None,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """One row a candidate and unit: ``candidate, generator, steps, cost, unit`` and the terms of
    :func:`catimage.pool.costs.all_costs`.

    Terms that an explicit cost does not have are None. With ``repeats``, every candidate makes so
    many images on ``device``, and its rows have ``seconds, seconds_iqr, wh, wh_iqr`` too
    (:func:`catimage.pool.measure.measure`; hosted ones are paid for).

    Raises:
        InputError: an unknown convention, a bad pool, configuration files that are not to be had
            or, where it is measured, weights.
    """
    known = get_args(Convention)
    if convention not in known:
        raise InputError(
            f"--convention {convention!r}: there is no such convention{nearest(convention, known)};"
            f" say {' or '.join(known)}."
        )
    chosen: Convention = "paper" if convention == "paper" else "full"
    loaded = load_pool(pool, workspace_pools)
    measured = _measured(loaded, repeats, device) if repeats else {}
    frame = all_costs(loaded, chosen).astype(object)
    rows = [
        {str(key): value for key, value in row.items()}
        for row in frame.where(pd.notna(frame), None).to_dict("records")
    ]
    return [row | measured.get(row["candidate"], {}) for row in rows]


def _measured(pool: Pool, repeats: int, device: str) -> dict[str, dict[str, Any]]:
    """What an image of each candidate takes on this device, generator by generator."""
    opened, meter, measured = OpenPool(pool, device), energy_meter(device), {}
    opened.prepare()
    for name in opened.wanted:
        for candidate in pool.candidates_of(name):
            measured[candidate.candidate] = asdict(
                measure(opened.generator(name), candidate, repeats=repeats, meter=meter)
            )
        opened.close(name)
    return measured
