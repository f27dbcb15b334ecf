"""``catimage pool check``: costs, memory and missing weights of a pool, without network access."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catimage.errors import InputError
from catimage.pool.costs import candidate_costs
from catimage.pool.kind import GeneratorFacts
from catimage.pool.loading import load_pool
from catimage.pool.registry import kind_class, kind_of
from catimage.pool.spec import Pool

NO_FACTS = GeneratorFacts("", None, None, "")
"""The facts of a generator whose configuration files are unavailable."""
AVAILABLE = "available"
"""The value of ``weights`` of a generator whose weights are on this machine."""


def check_rows(pool: str, workspace_pools: Path | None) -> list[dict[str, Any]]:
    """Return one row per candidate.

    Args:
        pool: the name or file of a pool.
        workspace_pools: the folder of the workspace's pools.

    Returns:
        Rows with ``candidate, generator, kind, steps, cost, unit``; ``memory_gb``, the estimated
        memory of the weights and of the activations of one image (None if the generator loads
        nothing on this machine); ``revision``; ``licence``; ``weights`` (``available``, or the
        missing files); and ``problem``, an error message if configuration files are unavailable or
        costs cannot be computed, else an empty string.

    Raises:
        InputError: the pool file is invalid.
    """
    loaded_pool = load_pool(pool, workspace_pools)
    rows = {
        row["candidate"]: row
        for name in loaded_pool.generators
        for row in _generator_rows(loaded_pool, name)
    }
    return [rows[candidate.candidate] for candidate in loaded_pool.candidates]


def _generator_rows(pool: Pool, name: str) -> list[dict[str, Any]]:
    """Return the rows of the candidates of one generator."""
    spec, candidates = pool.generators[name], pool.candidates_of(name)
    if not candidates:
        return []
    generator_pool = pool.model_copy(update={"candidates": candidates, "generators": {name: spec}})
    costs = {c.candidate: (c.cost, c.unit) for c in candidates}
    facts, problem = NO_FACTS, ""
    try:
        kind = kind_of(spec, pool.folder)
        kind.check_offline(candidates)
        facts = kind.facts()
        for row in candidate_costs(generator_pool).to_dict("records"):
            costs[row["candidate"]] = row["cost"], row["unit"]
    except InputError as error:
        problem = str(error)
    memory = None if facts.memory_bytes is None else round(facts.memory_bytes / 1e9, 3)
    generator_columns = {
        "memory_gb": memory,
        "revision": facts.revision,
        "licence": spec.licence,
        "weights": facts.missing or ("" if problem else AVAILABLE),
        "problem": problem,
    }
    return [
        {
            "candidate": candidate.candidate,
            "generator": name,
            "kind": spec.kind,
            "steps": candidate.steps,
            "cost": costs[candidate.candidate][0],
            "unit": costs[candidate.candidate][1],
            **generator_columns,
        }
        for candidate in candidates
    ]


def summary(rows: list[dict[str, Any]]) -> str:
    """Return a summary of the pool in one line.

    Args:
        rows: the result of :func:`check_rows`.
    """
    generators = {row["generator"]: row for row in rows}
    available = sum(row["weights"] == AVAILABLE for row in generators.values())
    problems = sum(bool(row["problem"]) for row in generators.values())
    memory = max((row["memory_gb"] for row in rows if row["memory_gb"] is not None), default=None)
    largest = "" if memory is None else f"; the largest generator needs about {memory:.3g} GB"
    state = f"{problems} with a problem" if problems else "no problem"
    return (
        f"{len(rows)} candidates of {len(generators)} generators: {state}; weights available for"
        f" {available}{largest}."
    )


def verification_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return, for each kind of generator that was only tested in part, a line on the tested part.

    Args:
        rows: the result of :func:`check_rows`.
    """
    generator_kinds = dict.fromkeys(row["kind"] for row in rows)
    return [
        f"{kind}: {kind_class(kind).verification}"
        for kind in generator_kinds
        if kind_class(kind).verification
    ]
