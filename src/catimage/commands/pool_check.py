"""What ``catimage pool check`` prints: all that can be known of a pool before a long run, without
asking the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catimage.errors import InputError
from catimage.pool.costs import candidate_costs
from catimage.pool.pool import Pool, load_pool
from catimage.pool.spec import Facts

NO_FACTS = Facts("", None, None, "")
AT_HAND = "at hand"


def check_rows(pool: str, workspace_pools: Path | None) -> list[dict[str, Any]]:
    """One row a candidate.

    Columns: ``candidate, generator, kind, steps, cost, unit``, ``memory_gb`` (weights and
    activations of one image, estimated; None where nothing is loaded here), ``revision``,
    ``licence``, ``weights`` (``at hand``, or what is missing) and ``problem``: one sentence where
    the generator's configuration is not to be had or its costs cannot be counted, else an empty
    string.

    Raises:
        InputError: the pool's file is bad.
    """
    loaded = load_pool(pool, workspace_pools)
    rows = {
        row["candidate"]: row for name in loaded.generators for row in _generator_rows(loaded, name)
    }
    return [rows[candidate.candidate] for candidate in loaded.candidates]


def _generator_rows(pool: Pool, name: str) -> list[dict[str, Any]]:
    spec, own = pool.generators[name], pool.candidates_of(name)
    if not own:
        return []
    rows: dict[str, dict[str, Any]] = {c.candidate: c.row() for c in own}
    facts, problem = NO_FACTS, ""
    try:
        facts = spec.facts(pool.folder)
        for row in candidate_costs(
            pool.model_copy(update={"candidates": own, "generators": {name: spec}})
        ).to_dict("records"):
            rows[row["candidate"]] |= {"cost": row["cost"], "unit": row["unit"]}
    except InputError as error:
        problem = str(error)
    memory = None if facts.memory_bytes is None else round(facts.memory_bytes / 1e9, 3)
    known = {
        "revision": facts.revision,
        "licence": spec.licence,
        "weights": facts.missing or (AT_HAND if not problem else ""),
        "problem": problem,
    }
    return [{**_head(row, spec.kind), "memory_gb": memory, **known} for row in rows.values()]


def _head(row: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "candidate": row["candidate"],
        "generator": row["generator"],
        "kind": kind,
        **{k: row[k] for k in ("steps", "cost", "unit")},
    }


def summary(rows: list[dict[str, Any]]) -> str:
    """One line on the whole pool."""
    generators = {row["generator"]: row for row in rows}
    ready = sum(row["weights"] == AT_HAND for row in generators.values())
    bad = sum(bool(row["problem"]) for row in generators.values())
    memory = max((row["memory_gb"] for row in rows if row["memory_gb"] is not None), default=None)
    largest = "" if memory is None else f"; the largest needs about {memory:.3g} GB"
    state = f"{bad} with a problem" if bad else "no problem"
    return (
        f"{len(rows)} candidates of {len(generators)} generators: {state}; weights at hand for"
        f" {ready}{largest}."
    )
