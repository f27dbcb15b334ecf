"""What ``catimage costs`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pandas as pd

from catimage.errors import InputError, nearest
from catimage.pool.costs import all_costs
from catimage.pool.pool import load_pool
from catimage.pool.spec import Convention


def cost_rows(pool: str, workspace_pools: Path | None, convention: str = "full") -> list[dict[str, Any]]:
    """One row a candidate and unit: ``candidate, generator, steps, cost, unit`` and the terms of :func:`catimage.pool.costs.all_costs`.

    Terms that an explicit cost does not have are None.

    Raises:
        InputError: an unknown convention, a bad pool, or configuration files that are not to be had.
    """
    known = get_args(Convention)
    if convention not in known:
        raise InputError(f"--convention {convention!r}: there is no such convention{nearest(convention, known)}; say {' or '.join(known)}.")
    chosen: Convention = "paper" if convention == "paper" else "full"
    frame = all_costs(load_pool(pool, workspace_pools), chosen).astype(object)
    return [{str(key): value for key, value in row.items()} for row in frame.where(pd.notna(frame), None).to_dict("records")]
