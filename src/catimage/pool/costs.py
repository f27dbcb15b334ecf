"""Costs of one image of each candidate of a pool."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import pandas as pd

from catimage.pool.counted_costs import CountedCosts
from catimage.pool.kind import Convention, CostTerms
from catimage.pool.registry import kind_class, kind_of
from catimage.pool.spec import Candidate, Pool

COLUMNS = (
    "candidate",
    "generator",
    "steps",
    "cost",
    "unit",
    *(field.name for field in fields(CostTerms)),
)
"""The columns of :func:`candidate_costs` and :func:`all_costs`."""


def candidate_costs(
    pool: Pool, convention: Convention = "full", known: CountedCosts | None = None
) -> pd.DataFrame:
    """Return the cost of one image of each candidate, and the terms that add up to it.

    A multiply-add counts as two floating-point operations. The conventions are:

    - ``full``: all matrix products and convolutions, including attention, of all calls of the
      denoiser, the text encoders and the decoder.
    - ``paper``: projections and convolutions of the denoiser only, as in Tables 1 and 2 of the
      CATImage paper. A step of SDXL with guidance costs 11.95 TFLOPs (in the paper, 11.97), and a
      step of SDXL-Turbo at 512 pixels costs 1.53 TFLOPs (in the paper, 1.54).

    The cost in the pool file is returned instead of a count for candidates with a cost in TFLOPs,
    for candidates of kinds whose costs cannot be computed, and for all candidates of a pool with
    ``costs: explicit``. The terms are NaN in the rows of these candidates.

    Args:
        pool: the pool.
        convention: ``full`` or ``paper``.
        known: counted costs of earlier runs.

    Returns:
        One row per candidate, in the order of the pool. The columns are ``candidate``,
        ``generator``, ``steps``, ``cost`` and ``unit``, and the attributes of
        :class:`~catimage.pool.kind.CostTerms`.

    Raises:
        InputError: configuration files of a generator are unavailable.
    """
    rows: dict[str, dict[str, Any]] = {c.candidate: c.row() for c in pool.candidates}
    for name, spec in pool.generators.items():
        counted = [c for c in pool.candidates_of(name) if not _has_explicit_cost(pool, c)]
        if not counted:
            continue
        count = kind_of(spec, pool.folder).count_costs
        costs = known.terms(counted, convention, count) if known else count(counted, convention)
        for candidate, terms in zip(counted, costs, strict=True):
            rows[candidate.candidate] |= {"unit": "tflops", "cost": terms.total, **asdict(terms)}
    return pd.DataFrame(list(rows.values()), columns=list(COLUMNS))


def all_costs(
    pool: Pool, convention: Convention = "full", known: CountedCosts | None = None
) -> pd.DataFrame:
    """Return the costs of each candidate in all available units.

    The rows of :func:`candidate_costs` come first, then the costs in other units in the pool file.
    If the pool has ``usd_per_tflop``, the TFLOPs of candidates without a cost in USD are converted
    to USD in further rows.

    Returns:
        One row per candidate and unit, with the columns of :func:`candidate_costs`.

    Raises:
        InputError: configuration files of a generator are unavailable.
    """
    costs = candidate_costs(pool, convention, known)
    listed = set(zip(costs["candidate"], costs["unit"], strict=True))
    further = [
        c.row()
        for c in pool.candidates
        if c.cost is not None and (c.candidate, c.unit) not in listed
    ]
    if pool.usd_per_tflop is not None:
        further += _usd_rows(pool, costs, pool.usd_per_tflop)
    return pd.concat([costs, pd.DataFrame(further)], ignore_index=True) if further else costs


def _usd_rows(pool: Pool, costs: pd.DataFrame, usd_per_tflop: float) -> list[dict[str, Any]]:
    """Return rows in USD for the candidates with TFLOPs and without a cost in USD."""
    return [
        {
            **row[["candidate", "generator", "steps"]],
            "cost": row["cost"] * usd_per_tflop,
            "unit": "usd",
        }
        for _, row in costs[costs["unit"] == "tflops"].iterrows()
        if pool.candidate(row["candidate"]).unit != "usd"
    ]


def candidates_without_cost(pool: Pool, unit: str) -> list[str]:
    """Return the candidates without a row in ``unit`` in :func:`all_costs`.

    TFLOPs are not counted for this, so no configuration files are read.
    """
    return [c.candidate for c in pool.candidates if unit not in _units(pool, c)]


def is_counted(pool: Pool, candidate: Candidate) -> bool:
    """Return whether the kind of the candidate's generator can count TFLOPs."""
    return kind_class(pool.generators[candidate.generator].kind).counted


def _units(pool: Pool, candidate: Candidate) -> set[str]:
    """Return the units of the candidate's rows in :func:`all_costs`."""
    units: set[str] = {candidate.unit} if candidate.cost is not None else set()
    if pool.costs == "counted" and is_counted(pool, candidate):
        units.add("tflops")
    if "tflops" in units and pool.usd_per_tflop is not None:
        units.add("usd")
    return units


def _has_explicit_cost(pool: Pool, candidate: Candidate) -> bool:
    """Return whether :func:`candidate_costs` uses the candidate's cost in the pool file."""
    counted = pool.costs == "counted" and is_counted(pool, candidate)
    return candidate.cost is not None and (not counted or candidate.unit == "tflops")
