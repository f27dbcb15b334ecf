"""The section ``gc`` of ``params.yaml``: what ``catimage gc`` keeps."""

from __future__ import annotations

from pydantic import Field

from catimage.params.section import Section


class GcParams(Section):
    """The policy of ``catimage gc`` (:mod:`catimage.commands.gc`).

    What an alias of the registry, the history of the champions, a served Bento or the workspace
    needs is always kept.

    Attributes:
        days: nothing that is younger is removed.
        runs: number of the newest runs of MLflow that are kept, with their model versions.
        bentos: number of the newest Bentos that are kept.
        commits: number of the newest git commits whose outputs stay in the cache of DVC.
    """

    days: float = Field(30.0, ge=0, allow_inf_nan=False)
    runs: int = Field(20, ge=1)
    bentos: int = Field(5, ge=1)
    commits: int = Field(10, ge=1)
