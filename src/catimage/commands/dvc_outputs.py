"""The outputs of the stages in DVC: locks, checks whether they are current, and commits."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catimage.commands.input_files import record_key
from catimage.commands.sources import stage_sources
from catimage.common.replacement import remove
from catimage.common.yaml_files import read_yaml
from catimage.errors import InputError
from catimage.params import Params
from catimage.workspace import Workspace, replacing

if TYPE_CHECKING:
    from dvc.repo import Repo

SOURCES = "data/sources.json"
"""The output of the stage ``sources``, which DVC compares with the inputs of the other stages."""
IMAGES = "data/images"


class DvcOutputs:
    """The outputs of some stages of a workspace that is in a DVC repository.

    Args:
        repo: the repository.
        workspace: the workspace, which has a ``dvc.yaml``.
        stages: the names of the stages. The stage ``sources`` is added.
    """

    def __init__(self, repo: Repo, workspace: Workspace, stages: Sequence[str]) -> None:
        self._repo, self._workspace, self._stages = repo, workspace, tuple(stages)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other DVC processes from reading or writing the outputs.

        Raises:
            InputError: another DVC process is using one of them, or DVC cannot read its files.
        """
        from dvc.rwlock import rwlock

        repo = self._repo
        with _dvc_errors(self._workspace):
            outputs = [
                output.fs_path
                for stage in ("sources", *self._stages)
                for found in repo.stage.collect(self._target(stage))
                for output in found.outs
            ]
            hardlink = repo.config["core"].get("hardlink_lock", False)
            lock = rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), [], outputs, hardlink)
            lock.__enter__()
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def outdated(self, params: Params) -> str:
        """Return the reason why ``dvc repro`` would run one of the stages; empty if there is none.

        The pool file may have changed since the last run, because the new candidate was added to
        it. The folder of the images may contain images of an interrupted command; the scores
        record the list of their images.

        Args:
            params: the parameters of the workspace.

        Raises:
            InputError: DVC cannot read its files.
        """
        recorded = _stages_in(self._workspace.root / "dvc.lock")
        current = stage_sources(self._workspace, params, self._stages)
        pool = record_key(f"pool {params.pool}")
        for stage in self._stages:
            if stage not in recorded:
                return f"'dvc repro' has not run the stage {stage}"
            inputs = recorded[stage].get("params", {}).get(SOURCES, {})
            reason = _changed_input(stage, inputs, current[stage], pool)
            reason = reason or self._changed_file(stage)
            if reason:
                return reason
        return ""

    def commit(self) -> None:
        """Record the outputs and inputs of the stages in ``dvc.lock``; on failure, restore it.

        Raises:
            InputError: another DVC process is running, or DVC cannot read its files.
        """
        path = self._workspace.root / "dvc.lock"
        previous = path.read_bytes() if path.exists() else None
        logging.getLogger("dvc").setLevel(logging.WARNING)  # no line for each stage
        try:
            with _dvc_errors(self._workspace):
                for stage in ("sources", *self._stages):
                    self._repo.commit(self._target(stage), force=True)
        except BaseException:
            if previous is None:
                remove(path)
            else:
                with replacing(path) as new:
                    new.write_bytes(previous)
            raise

    def _target(self, stage: str) -> str:
        return f"{(self._workspace.root / 'dvc.yaml').resolve()}:{stage}"

    def _changed_file(self, stage: str) -> str:
        """Return a sentence about a table or output that is not as DVC recorded it."""
        with _dvc_errors(self._workspace):
            status = self._repo.status(targets=[self._target(stage)])
        for changes in status.values():
            for change in changes:
                if not isinstance(change, dict):
                    return f"the command of the stage {stage} changed"
                for files in change.values():
                    names = [name for name in files if not name.endswith((SOURCES, IMAGES))]
                    if names:
                        return f"{names[0]} changed since 'dvc repro' ran {stage}"
        return ""


def find_dvc_outputs(workspace: Workspace, stages: Sequence[str]) -> DvcOutputs | None:
    """Return the outputs of stages in DVC; None if DVC does not manage the workspace.

    Args:
        workspace: the workspace.
        stages: the names of the stages.

    Raises:
        InputError: ``dvc.yaml`` or ``dvc.lock`` is damaged, or DVC cannot read its configuration.
    """
    pipeline = workspace.root / "dvc.yaml"
    if not pipeline.exists() or find_spec("dvc") is None:
        return None
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    if not {"sources", *stages} <= _stages_in(pipeline).keys():
        return None
    _stages_in(workspace.root / "dvc.lock")
    try:
        with _dvc_errors(workspace):
            return DvcOutputs(Repo(str(workspace.root.resolve())), workspace, stages)
    except NotDvcRepoError:
        return None


def _stages_in(path: Path) -> dict[str, Any]:
    """Return the stages in ``dvc.yaml`` or ``dvc.lock``; none if the file does not exist.

    Raises:
        InputError: the file is damaged.
    """
    document = (read_yaml(path) if path.exists() else None) or {}
    stages = (document.get("stages") or {}) if isinstance(document, dict) else None
    if not isinstance(stages, dict):
        raise InputError(f"{path}: not a file of DVC. Restore it from git.")
    return stages


@contextmanager
def _dvc_errors(workspace: Workspace) -> Iterator[None]:
    """Raise errors of DVC as an InputError; the exception is NotDvcRepoError."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError

    try:
        yield
    except NotDvcRepoError:
        raise
    except LockError as error:
        raise InputError(
            f"{workspace.root}: another DVC process is using its outputs. Wait for that process to"
            " end, then run the command again."
        ) from error
    except DvcException as error:
        path = getattr(error, "path", None) or workspace.root / "dvc.yaml"
        raise InputError(
            f"{path}: DVC cannot use the workspace. Correct what 'dvc status' reports, then run the"
            " command again."
        ) from error


def _changed_input(
    stage: str, recorded: Mapping[str, Any], current: Mapping[str, Any], ignored: str
) -> str:
    """Return a sentence about an input of a stage that has changed since DVC recorded it."""
    for kind in ("code", "packages", "parameters"):
        if recorded.get(f"{stage}.{kind}") != current[kind]:
            return f"the {kind} of the stage {stage} changed since 'dvc repro' ran it"
    for name, digest in recorded.get(f"{stage}.files", {}).items():
        if name != ignored and current["files"].get(name) != digest:
            return f"{name} changed since 'dvc repro' ran {stage}"
    return ""
