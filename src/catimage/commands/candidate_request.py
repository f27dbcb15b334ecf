"""The request of ``add-candidate``, and its checks, which precede all generation and writing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catimage.commands.candidate_data import check_pool_has
from catimage.errors import InputError
from catimage.params import Params
from catimage.pool.loading import load_pool
from catimage.router import Router
from catimage.workspace import Workspace


@dataclass(frozen=True)
class CandidateRequest:
    """A candidate to add.

    Attributes:
        name: the name of the candidate in the pool or in ``scores``.
        count: the number of representative training prompts to score.
        scores: for a workspace of imported scores, a CSV file of scores of the candidate.
        costs: for a workspace of imported scores, a CSV file of the candidate's costs.
        score_all_splits: whether the prompts of the other splits are scored too; ``evaluate`` needs
            the scores of the test split.
    """

    name: str
    count: int = 200
    scores: Path | None = None
    costs: Path | None = None
    score_all_splits: bool = False


def has_imported_scores(params: Params) -> bool:
    """Return whether the workspace was created by ``import-scores``."""
    return params.imported is not None and params.imported.kind == "scores"


def check_request(
    workspace: Workspace, params: Params, router: Router, request: CandidateRequest
) -> None:
    """Check that a candidate can be added.

    Raises:
        InputError: the router already has the candidate, a quality floor needs scores that are not
            requested, the pool does not have the candidate, or the options do not fit the kind of
            workspace.
    """
    if request.name in router.candidates:
        raise InputError(
            f"models/router: already has a candidate {request.name!r}. Give another name, or run"
            " 'catimage train' and 'catimage calibrate' to use more labels."
        )
    _check_floors(params, request)
    if has_imported_scores(params):
        return
    if params.imported is not None:
        raise InputError(
            "params.yaml: the workspace was created by 'import-images'. Add the images of the"
            " candidate to the imported CSV file and run 'catimage import-images' again."
        )
    if request.scores is not None or request.costs is not None:
        raise InputError(
            "--scores, --costs: only allowed in a workspace of imported scores. Remove these"
            " options; images are generated and scored instead."
        )
    check_pool_has(load_pool(params.pool, workspace.pools), request.name)


def _check_floors(params: Params, request: CandidateRequest) -> None:
    """Check that the validation prompts will have scores if quality floors are checked on them."""
    if request.score_all_splits or request.scores is not None:
        return
    for key in ("floors", "quality_floor"):
        if getattr(params.calibrate, key) not in (None, {}):
            raise InputError(
                f"calibrate.{key}: needs scores of the validation prompts. Add --score-all-splits,"
                " which also scores the validation and test prompts."
            )
