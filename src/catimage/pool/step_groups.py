"""Which candidates differ in their number of steps alone."""

from __future__ import annotations

from catimage.params import Params
from catimage.pool.pool import Pool, load_pool
from catimage.workspace import Workspace


def pool_of(workspace: Workspace, params: Params) -> Pool | None:
    """The pool of this workspace; None where its candidates were imported.

    Raises:
        InputError: there is no such pool, or its file is not one.
    """
    return None if params.imported is not None else load_pool(params.pool, workspace.pools)


def kinds_of(pool: Pool | None, generators: dict[str, str]) -> dict[str, str]:
    """By candidate its generator, with the settings that it has otherwise: candidates of one kind
    differ in steps alone.

    Args:
        generators: by candidate, as the candidates table has them; all that is known of imported
            ones, and of those not in the pool.
    """
    known = (
        {
            c.candidate: ", ".join(
                [c.generator, *(f"{k}={v}" for k, v in sorted(c.settings.items()))]
            )
            for c in pool.candidates
        }
        if pool
        else {}
    )
    return {name: known.get(name, generator) for name, generator in generators.items()}
