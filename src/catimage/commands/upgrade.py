"""``catimage upgrade``: migrate a workspace and the state of the service from an older version."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catimage.commands.init import TEMPLATES
from catimage.commands.upgrade_params import rename_keys
from catimage.common.transaction import written_together
from catimage.common.workspace_format import (
    FORMAT_FILE,
    WORKSPACE_FORMAT,
    format_text,
    workspace_format,
)
from catimage.common.yaml_files import read_yaml
from catimage.data.router_files import read_router_files
from catimage.errors import InputError
from catimage.params import parse_params, read_tree
from catimage.params.editing import params_text
from catimage.serving.settings import load_environment
from catimage.serving.state.database import Database, parsed
from catimage.serving.state.migrations import migrate
from catimage.workspace import Workspace

PIPELINES = {"e38ba334b767860c"}
"""Digests of the stages of ``dvc.yaml`` of older versions, which nobody has changed."""
_CHECKOUT = "PYTHONPATH=src "
"""The beginning of the commands in a repository with the code of CATImage."""


def upgrade(workspace: Workspace, apply: bool = True) -> list[str]:
    """Migrate the files of a workspace and the state of its service.

    The files of a workspace are replaced together; their old versions are kept in
    ``.catimage/format-N/``. The command can be repeated.

    Args:
        workspace: the workspace.
        apply: whether the steps are carried out, and not only listed.

    Returns:
        The steps, each as a text; those that a person has to do begin with ``by hand:``.

    Raises:
        InputError: a newer version of CATImage wrote the workspace or the tables, or the parameters
            are invalid.
        ServingError: the database of the service cannot be used.
    """
    root, found = workspace.root, workspace_format(workspace.root)
    texts, steps = _new_files(workspace, found)
    tree = read_tree(workspace.params)
    rename_keys(tree)
    params = parse_params(tree, workspace.params)
    steps += [
        f"state of the service: {step}" for step in _migrate_state(params.package.name, apply)
    ]
    if apply and texts:
        _keep_old(root, found, list(texts))
        with written_together(root, list(texts)) as new:
            for path, text in texts.items():
                new[path].write_text(text, encoding="utf-8")
    return [*steps, *_by_hand(workspace)]


def _new_files(workspace: Workspace, found: int) -> tuple[dict[Path, str], list[str]]:
    """Return the new contents of the files that change, and the steps.

    Args:
        workspace: the workspace.
        found: the version of its format.
    """
    texts, tree = {}, read_tree(workspace.params)
    if steps := rename_keys(tree):
        texts[workspace.params] = params_text(tree)
    path = workspace.root / "dvc.yaml"
    if path.exists() and _stages_digest(path) in PIPELINES:
        texts[path] = _pipeline(_CHECKOUT in path.read_text(encoding="utf-8"))
        steps.append("dvc.yaml: the stages of this version")
    if found < WORKSPACE_FORMAT:
        texts[workspace.root / FORMAT_FILE] = format_text()
        steps.append(f"{FORMAT_FILE}: format {found} to {WORKSPACE_FORMAT}")
    return texts, steps


def _pipeline(checkout: bool) -> str:
    """Return ``dvc.yaml`` of this version."""
    text = (TEMPLATES / "dvc.yaml").read_text(encoding="utf-8")
    return text.replace("cmd: ", f"cmd: {_CHECKOUT}") if checkout else text


def _stages_digest(path: Path) -> str:
    """Return a digest of the stages of ``dvc.yaml``, whatever the folder of the code is."""
    text = json.dumps(_stages(path), sort_keys=True).replace(_CHECKOUT, "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stages(path: Path) -> Mapping[str, Any]:
    """Return the stages in ``dvc.yaml``."""
    document = read_yaml(path)
    stages = document.get("stages") if isinstance(document, dict) else None
    if not isinstance(stages, dict):
        raise InputError(f"{path}: has no mapping 'stages'. Restore the file from git.")
    return stages


def _keep_old(root: Path, found: int, paths: list[Path]) -> None:
    """Copy files that will be replaced to ``.catimage/format-N/``, unless they are there."""
    folder = root / ".catimage" / f"format-{found}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.exists() and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def _migrate_state(name: str, apply: bool) -> list[str]:
    """Migrate the database of the service, if there is one.

    Args:
        name: the name of the service, for the default database.
        apply: whether the steps are carried out.
    """
    url = load_environment().state(name)
    address = parsed(url)
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").exists():
        return []
    database = Database(url)
    try:
        return migrate(database, apply)
    finally:
        database.close()


def _by_hand(workspace: Workspace) -> Iterator[str]:
    """Yield what a person has to do."""
    path = workspace.root / "dvc.yaml"
    current = _stages_digest(TEMPLATES / "dvc.yaml")
    if path.exists() and _stages_digest(path) not in {current, *PIPELINES}:
        yield f"by hand: {path} differs from {TEMPLATES / 'dvc.yaml'}; add what it lacks"
    if (workspace.router / "router.json").exists():
        try:
            read_router_files(workspace.router)
        except InputError as error:
            yield f"by hand: {error}"
