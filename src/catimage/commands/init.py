"""``catimage init``: create a workspace with its parameters, stages and deployments of flows."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import catimage
from catimage.common.git import is_in_repository
from catimage.common.replacement import remove, replace, temporary_path
from catimage.common.workspace_format import FORMAT_FILE, format_text
from catimage.errors import InputError

TEMPLATES = Path(catimage.__file__).parent / "templates"
"""The files of a new workspace, which are part of the package."""
FILES = {
    "params.yaml": "params.yaml",
    "dvc.yaml": "dvc.yaml",
    "prefect.yaml": "prefect.yaml",
    "gitignore": ".gitignore",
    "dvcignore": ".dvcignore",
}
"""The name of each template, and of the file in the workspace."""
_DVC_CONFIG = {"analytics": False, "autostage": False, "check_update": False}
_PLOTS = "\nplots:"
"""The beginning of the section of ``dvc.yaml`` that needs the templates of plots in ``.dvc/``."""


def init(folder: Path, files_only: bool = False) -> list[str]:
    """Create a workspace.

    If git is installed and the folder is not in a repository, it becomes one; if DVC is installed,
    it becomes a repository of DVC. If anything fails, nothing is left.

    Args:
        folder: the folder of the workspace, which does not exist or is empty.
        files_only: whether ``git init`` and ``dvc init`` do not run.

    Returns:
        The commands that the user still has to run before ``dvc repro``.

    Raises:
        InputError: the folder is not empty, or a command fails.
    """
    _check_empty(folder)
    with _filled(folder) as new:
        _write_files(new, plots=not files_only)
        return ["git init", "dvc init"] if files_only else _make_repositories(new, folder)


def _check_empty(folder: Path) -> None:
    """Raise InputError if a path exists and is not an empty folder."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: a file has this name. Choose the name of a new folder.")
    if any(folder.iterdir()):
        raise InputError(f"{folder}: the folder is not empty. Choose a new or an empty folder.")


@contextmanager
def _filled(folder: Path) -> Iterator[Path]:
    """Fill a new or an empty folder if the ``with`` block succeeds.

    Yields:
        A temporary folder on the same disk for the content.
    """
    inside = folder.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = temporary_path(folder / "workspace" if inside else folder)
    try:
        new.mkdir()
        yield new
        if not inside:
            replace(new, folder)
            return
        for path in sorted(new.iterdir()):  # the folder may be the current one of the user's shell
            path.rename(folder / path.name)
    except BaseException:
        for path in folder.iterdir() if inside else ():
            remove(path)
        raise
    finally:
        remove(new)


def _write_files(folder: Path, plots: bool) -> None:
    """Write the files of a workspace; without templates of plots, ``dvc.yaml`` has no plots."""
    for template, name in FILES.items():
        shutil.copyfile(TEMPLATES / template, folder / name)
    if not plots:
        path = folder / "dvc.yaml"
        path.write_text(path.read_text().partition(_PLOTS)[0])
    (folder / FORMAT_FILE).write_text(format_text())


def _make_repositories(new: Path, folder: Path) -> list[str]:
    """Run ``git init`` and ``dvc init``, as far as these are installed; return the others.

    Args:
        new: the folder with the files.
        folder: the folder that it becomes, which may be in a repository of git.
    """
    todo = []
    inside = is_in_repository(folder if folder.exists() else folder.parent)
    if not inside:
        if shutil.which("git"):
            _run("git", ["git", "init", "--quiet"], new)
        else:
            todo.append("git init")
    if find_spec("dvc") is None:
        return [*todo, "dvc init"]
    _init_dvc(new, no_scm=bool(todo), subdir=inside)
    return todo


def _init_dvc(folder: Path, no_scm: bool, subdir: bool) -> None:
    """Make a folder a repository of DVC, with the templates of the plots in ``dvc.yaml``."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repository = Repo.init(str(folder), no_scm=no_scm, subdir=subdir)
    except DvcException as error:
        raise InputError(
            f"dvc init: failed ({error}). Correct the cause, or use --files-only."
        ) from error
    with repository.config.edit() as config:
        config["core"].update(_DVC_CONFIG)
    repository.close()
    shutil.copytree(TEMPLATES / "plots", folder / ".dvc" / "plots", dirs_exist_ok=True)


def _run(name: str, command: list[str], folder: Path) -> None:
    """Run a command in a folder.

    Raises:
        InputError: it fails.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise InputError(f"{name}: failed ({reason}). Correct the cause, or use --files-only.")
