"""Which candidates a workspace has images of, and whose images they are compared with: the pool's
word, or that of ``import-images``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from catimage.data.schema import CANDIDATES, read_table
from catimage.errors import InputError
from catimage.params import Params
from catimage.pool.pool import Pool, load_pool
from catimage.workspace import Workspace


@dataclass(frozen=True)
class Choices:
    """Names of the ``candidates``, the reference candidate of each that has one, and which command
    makes images that are ``missing``.
    """

    candidates: list[str]
    references: Mapping[str, str]
    source: str
    missing: str

    def check_references(self, metric: str) -> None:
        """Every candidate has a reference, as ``metric`` needs it.

        Raises:
            InputError: naming the first that has none.
        """
        lacking = [name for name in self.candidates if name not in self.references]
        if lacking:
            what = f"{self.source} names no metric_reference of the candidate {lacking[0]!r}"
            raise InputError(
                f"label.metrics: {metric!r} compares with a reference, and {what}; name a candidate"
                " there, or leave it out."
            )


def choices_of(workspace: Workspace, params: Params) -> Choices:
    """The candidates of the pool, or where images were imported those of the candidates table.

    Raises:
        InputError: there is no such pool or table, or ``import.metric_reference`` names a candidate
            that is none.
    """
    if params.imported is None:
        return of_pool(load_pool(params.pool, workspace.pools))
    candidates = list(
        read_table(workspace.candidates, CANDIDATES, "import-images")["candidate"].unique()
    )
    params.imported.check_references(candidates)
    return Choices(
        candidates, params.imported.metric_reference, "params.yaml: import", "import-images"
    )


def of_pool(pool: Pool) -> Choices:
    """A pool's candidates; a reference is that of the candidate's generator."""
    named = pool.metric_reference
    references = {c.candidate: named[c.generator] for c in pool.candidates if c.generator in named}
    return Choices(
        [c.candidate for c in pool.candidates], references, f"the pool {pool.name!r}", "generate"
    )
