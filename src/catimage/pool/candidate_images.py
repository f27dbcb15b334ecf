"""The candidates with images in a workspace, and their reference candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from catimage.data.schema import CANDIDATES, read_table
from catimage.errors import InputError
from catimage.params.data import ImportParams
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from catimage.workspace import Workspace


@dataclass(frozen=True)
class CandidateImages:
    """Candidates with images, from a pool or from ``import-images``.

    Attributes:
        candidates: names of the candidates.
        references: by candidate, the candidate whose images are its references in full-reference
            metrics. Candidates without references are not in it.
        source: the pool or the file that defines the references, for error messages.
        command: the command that writes missing images.
    """

    candidates: list[str]
    references: Mapping[str, str]
    source: str
    command: str

    def check_references(self, metric: str) -> None:
        """Check that every candidate has a reference candidate, which ``metric`` requires.

        Raises:
            InputError: a candidate has no reference candidate.
        """
        missing = [name for name in self.candidates if name not in self.references]
        if missing:
            raise InputError(
                f"{self.source}: no metric_reference for the candidate {missing[0]!r}, and the"
                f" metric {metric!r} needs reference images. Set metric_reference, or remove the"
                " metric from label.metrics."
            )


def candidate_images(
    workspace: Workspace, pool: str, imported: ImportParams | None = None
) -> CandidateImages:
    """Return the candidates of the pool or, if images were imported, of the candidates table.

    Args:
        workspace: the workspace.
        pool: name or file of the pool; ignored if images were imported.
        imported: the section ``import`` of params.yaml.

    Raises:
        InputError: there is no such pool or table, or ``import.metric_reference`` names an unknown
            candidate.
    """
    if imported is None:
        return pool_candidate_images(load_pool(pool, workspace.pools))
    table = read_table(workspace.candidates, CANDIDATES, "import-images")
    candidates = list(table["candidate"].unique())
    imported.check_references(candidates)
    return CandidateImages(
        candidates, imported.metric_reference, "params.yaml: import", "import-images"
    )


def pool_candidate_images(pool: Pool) -> CandidateImages:
    """Return the candidates of a pool, each with the reference candidate of its generator."""
    references = {
        c.candidate: pool.metric_reference[c.generator]
        for c in pool.candidates
        if c.generator in pool.metric_reference
    }
    names = [c.candidate for c in pool.candidates]
    return CandidateImages(names, references, f"the pool {pool.name!r}", "generate")
