"""What every candidate of a pool costs for one image."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import pandas as pd

from catimage.pool.pool import Pool
from catimage.pool.spec import Candidate, Convention, Terms

COLUMNS = (
    "candidate",
    "generator",
    "steps",
    "cost",
    "unit",
    *(field.name for field in fields(Terms)),
)


def candidate_costs(pool: Pool, convention: Convention = "full") -> pd.DataFrame:
    """One row a candidate, in the pool's order: its cost for one image, with the terms that add up
    to it.

    Columns: ``candidate, generator, steps, cost, unit``, then in TFLOPs ``denoiser, text_encoder,
    decoder``, and the number of ``denoiser_calls`` and of ``passes`` (2 with classifier-free
    guidance, for the empty prompt, 1 without). Candidates with an explicit TFLOPs cost keep it, and
    in a pool with ``costs: explicit`` all do, in their own unit, as do candidates of a kind that
    cannot be counted; their terms are missing.

    Conventions. A multiply-add is two floating-point operations under both.

    - ``full``: denoiser calls x passes, text encoder x passes, decoder once, with the products of
    attention.
    - ``paper``: projections and convolutions of the denoiser alone, as CATImage's tables have it:
    SDXL comes out at
      11.95 TFLOPs a guided step (the paper: 11.97) and at 1.53 for the 512-pixel Turbo (1.54).

    Raises:
        InputError: a generator's configuration files are not to be had.
    """
    rows: dict[str, dict[str, Any]] = {c.candidate: c.row() for c in pool.candidates}
    for name, spec in pool.generators.items():
        own = [c for c in pool.candidates_of(name) if not _explicit(pool, c)]
        for candidate, terms in zip(
            own, spec.terms(pool.folder, own, convention) if own else [], strict=True
        ):
            rows[candidate.candidate] |= {"unit": "tflops", "cost": total(terms), **asdict(terms)}
    return pd.DataFrame(list(rows.values()), columns=list(COLUMNS))


def all_costs(pool: Pool, convention: Convention = "full") -> pd.DataFrame:
    """:func:`candidate_costs`, then the costs in further units: one row a candidate and unit.

    These are the explicit ones and, where the pool has ``usd_per_tflop``, what the counted TFLOPs
    of a candidate without a price come to.

    Raises:
        InputError: a generator's configuration files are not to be had.
    """
    counted = candidate_costs(pool, convention)
    there = set(zip(counted["candidate"], counted["unit"], strict=True))
    explicit = [
        c.row()
        for c in pool.candidates
        if c.cost is not None and (c.candidate, c.unit) not in there
    ]
    rows = counted[counted["unit"] == "tflops"].iterrows() if pool.usd_per_tflop is not None else []
    unpriced = [row for _, row in rows if pool.candidate(row["candidate"]).unit != "usd"]
    priced = [
        {
            **row[["candidate", "generator", "steps"]],
            "cost": row["cost"] * pool.usd_per_tflop,
            "unit": "usd",
        }
        for row in unpriced
    ]
    return (
        pd.concat([counted, pd.DataFrame(explicit + priced)], ignore_index=True)
        if explicit or priced
        else counted
    )


def lacking(pool: Pool, unit: str) -> list[str]:
    """The candidates that :func:`all_costs` has no cost of in ``unit``, without counting anything."""
    return [c.candidate for c in pool.candidates if unit not in _units(pool, c)]


def _units(pool: Pool, candidate: Candidate) -> set[str]:
    explicit = {candidate.unit} if candidate.cost is not None else set()
    counted = pool.costs == "counted" and pool.generators[candidate.generator].counted
    tflops = {"tflops"} if counted else explicit & {"tflops"}
    return explicit | tflops | ({"usd"} if tflops and pool.usd_per_tflop is not None else set())


def total(terms: Terms) -> float:
    """TFLOPs of one image."""
    return terms.denoiser + terms.text_encoder + terms.decoder


def _explicit(pool: Pool, candidate: Candidate) -> bool:
    counted = pool.costs == "counted" and pool.generators[candidate.generator].counted
    return candidate.cost is not None and (not counted or candidate.unit == "tflops")
