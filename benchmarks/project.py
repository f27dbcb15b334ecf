"""A copy of this project, in which a benchmark runs the stages."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "bentos", "expectations", "flows", "pools", ".dvc/plots")
FILES = (".dvc/config", ".dvc/.gitignore", ".gitignore", ".dvcignore", "params.yaml")


def copy_project(folder: Path, command: Callable[[str, dict[str, Any]], str]) -> list[str]:
    """Create a git repository with the code, parameters and ``dvc.yaml`` of this project.

    Args:
        folder: the folder of the copy, which exists.
        command: returns the command of a stage, given its name and its part of ``dvc.yaml``.

    Returns:
        The names of the stages.
    """
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored, symlinks=True)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for name, stage in pipeline["stages"].items():
        stage["cmd"] = command(name, stage)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return list(pipeline["stages"])
