"""The outputs with an added candidate: computed in a temporary workspace, then moved together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from catimage.commands.candidate_data import CandidateData
from catimage.commands.dvc_outputs import SOURCES, DvcOutputs, find_dvc_outputs
from catimage.commands.incremental import Extension, extend_estimators
from catimage.commands.sources import sources_text
from catimage.common.transaction import replacing_together
from catimage.data.provenance import ESTIMATORS, SCORES_FILE, Provenance, write_inputs
from catimage.data.schema import (
    CANDIDATES,
    REFUSED_COLUMNS,
    SCORES,
    read_refused,
    read_table,
    write_frames,
    write_table,
)
from catimage.data.shards.lock import write_lock
from catimage.data.shards.manifest import (
    MANIFEST_NAME,
    read_manifest,
    refused_images,
    write_manifest,
)
from catimage.errors import InputError
from catimage.params import Params, apply_setting, parse_params, read_tree, save_params
from catimage.router import Router
from catimage.stages import calibrate, validate
from catimage.workspace import Workspace

COMMITTED_STAGES = ("generate", "label", "validate", "train", "calibrate")
"""The stages whose outputs change."""
_LINKS = ("data/embeddings", "pools", "expectations", ".catimage")
"""Folders of the workspace that the temporary workspace uses."""


@dataclass(frozen=True)
class StagedCandidate:
    """Outputs with an added candidate.

    Attributes:
        workspace: the temporary workspace that contains them.
        params: its parameters.
        labelled: the number of training prompts that have a label of the candidate.
        has_images: whether the manifest lists images of the candidate.
    """

    workspace: Workspace
    params: Params
    labelled: int
    has_images: bool


@contextmanager
def staged_candidate(
    workspace: Workspace, params: Params, router: Router, data: CandidateData, name: str
) -> Iterator[StagedCandidate]:
    """Compute the outputs in a temporary workspace, which is removed after the ``with`` block.

    Args:
        workspace: the workspace, which is not changed.
        params: its parameters.
        router: its router.
        data: the scores and costs of the candidate.
        name: the name of the candidate.

    Raises:
        InputError: there are too few labels, or the validation or the calibration fails.
    """
    folder = workspace.root / ".catimage" / "add-candidate"
    shutil.rmtree(folder, ignore_errors=True)
    staged = Workspace(folder)
    try:
        with paths_of(workspace, staged):
            new_params = _write_tables(workspace, staged, data)
            with redirect_stdout(StringIO()):
                validate.run(staged, new_params)
            extension = Extension(workspace, staged, new_params, router, name)
            labelled = extend_estimators(extension)
            write_inputs(staged.estimators, Provenance(staged).inputs(ESTIMATORS))
            same_estimator = new_params.calibrate.model_copy(
                update={"estimator": router.estimator_name}
            )
            calibrate.run(staged, new_params.model_copy(update={"calibrate": same_estimator}))
        yield StagedCandidate(staged, new_params, labelled, bool(data.entries))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked_outputs(workspace: Workspace) -> Iterator[DvcOutputs | None]:
    """Exclude other writers of the images, of the scores and of the outputs in DVC.

    Yields:
        The outputs in DVC; None if DVC does not manage the workspace.

    Raises:
        InputError: another process writes one of them.
    """
    dvc = find_dvc_outputs(workspace, COMMITTED_STAGES)
    with ExitStack() as stack:
        stack.enter_context(write_lock(workspace.images))
        stack.enter_context(write_lock(workspace.scores))
        if dvc is not None:
            stack.enter_context(dvc.locked())
        yield dvc


def staged_outputs(workspace: Workspace, staged: Workspace) -> dict[Path, Path | None]:
    """Return the staged file or folder of each output that depends on the candidates."""
    return {
        workspace.candidates: staged.candidates,
        workspace.scores: staged.scores,
        workspace.reports / "validation.json": staged.reports / "validation.json",
        workspace.estimators: staged.estimators,
        workspace.router: staged.router,
    }


def commit_candidate(
    workspace: Workspace, candidate: StagedCandidate, dvc: DvcOutputs | None
) -> None:
    """Move the outputs to the workspace: all of them or none.

    Args:
        workspace: the workspace.
        candidate: the outputs.
        dvc: the outputs in DVC, which are committed; None if they are not.
    """
    staged = candidate.workspace
    sources = staged_outputs(workspace, staged) | {workspace.params: staged.params}
    if candidate.has_images:
        sources[workspace.images / MANIFEST_NAME] = staged.images / MANIFEST_NAME
    if dvc is not None:
        new_sources = staged.root / SOURCES
        new_sources.write_text(sources_text(workspace, candidate.params), encoding="utf-8")
        sources[workspace.root / SOURCES] = new_sources
    stages = () if dvc is None else COMMITTED_STAGES
    with replacing_together(workspace.root, sources, stages):
        if dvc is not None:
            dvc.commit()


def _write_tables(workspace: Workspace, staged: Workspace, data: CandidateData) -> Params:
    """Write ``params.yaml``, the tables and the manifest, with the candidate, to ``staged``.

    Returns:
        The new parameters.
    """
    candidates = read_table(workspace.candidates, CANDIDATES, "generate")
    scores = read_table(workspace.scores, SCORES, "label")
    write_table(pd.concat([candidates, data.costs]), staged.candidates, CANDIDATES)
    link_inputs(workspace, staged, _LINKS)
    if (workspace.images / MANIFEST_NAME).exists():
        write_manifest(staged.images, [*read_manifest(workspace.images), *data.entries])
    inputs = Provenance(staged).inputs(SCORES_FILE)
    refused = pd.concat(
        [
            read_refused(workspace.scores, "label"),
            refused_images(workspace.images, data.entries)[list(REFUSED_COLUMNS)],
        ]
    )
    write_frames([scores, data.scores], staged.scores, SCORES, inputs, refused)
    tree = read_tree(workspace.params)
    apply_setting(tree, "validate.complete_labels=false")
    save_params(tree, staged.params)
    return parse_params(tree, workspace.params)


def link_inputs(workspace: Workspace, staged: Workspace, folders: Sequence[str]) -> None:
    """Link the prompts table and folders of a workspace in a temporary workspace."""
    staged.prompts.parent.mkdir(parents=True, exist_ok=True)
    staged.prompts.symlink_to(workspace.prompts.resolve())
    for name in folders:
        if (workspace.root / name).is_dir():
            (staged.root / name).symlink_to((workspace.root / name).resolve())


@contextmanager
def paths_of(workspace: Workspace, staged: Workspace) -> Iterator[None]:
    """Name the paths of the workspace, not those of the temporary workspace, in error messages."""
    try:
        yield
    except InputError as error:
        text = str(error).replace(str(staged.root), str(workspace.root))
        raise InputError(text) from error
