"""Completion of a command that was killed while it replaced files of a workspace."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from catimage.common.replacement import remove_leftovers
from catimage.common.transaction import JOURNAL, complete, is_pending, pending_dvc_stages
from catimage.common.workspace_format import workspace_format
from catimage.errors import InputError
from catimage.workspace import Workspace


def recover(workspace: Workspace) -> None:
    """Complete the replacement of files that a killed command had begun, and remove its leftovers.

    Every command calls this function before it reads the workspace.

    Raises:
        InputError: a newer version of CATImage wrote the workspace; the replacement cannot be
            completed; or DVC runs this command, and the replacement includes a commit to DVC.
    """
    workspace_format(workspace.root)
    if is_pending(workspace.root):
        if "DVC_STAGE" in os.environ and pending_dvc_stages(workspace.root):
            raise InputError(
                f"{workspace.root / JOURNAL}: a command was interrupted while it replaced files."
                " Run 'catimage sources' to complete it, then run 'dvc repro' again."
            )
        if complete(workspace.root, lambda stages: _commit(workspace, stages)):
            print(
                "catimage: the replacement of files that an interrupted command had begun was"
                " completed.",
                file=sys.stderr,
                flush=True,
            )
    for folder in _output_folders(workspace):
        remove_leftovers(folder)


def _output_folders(workspace: Workspace) -> list[Path]:
    """Return the folders in which commands replace files and folders."""
    root = workspace.root
    return [
        root,
        root / JOURNAL.parent,
        workspace.scores.parent,
        workspace.images,
        root / "data" / "embeddings",
        workspace.router.parent,
        workspace.reports,
        workspace.dist,
    ]


def _commit(workspace: Workspace, stages: Sequence[str]) -> None:
    """Commit stages to DVC, as the interrupted command would have done."""
    from catimage.commands.dvc_outputs import find_dvc_outputs

    outputs = find_dvc_outputs(workspace, stages)
    if outputs is not None:
        with outputs.locked():
            outputs.commit()
