"""The git repository and the git commit of a folder."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def git_commit(folder: Path) -> str | None:
    """Return the SHA of the current commit; None outside a git repository or without git."""
    if not shutil.which("git"):
        return None
    command = ["git", "rev-parse", "HEAD"]
    git = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return git.stdout.strip() if git.returncode == 0 else None


def is_in_repository(folder: Path) -> bool:
    """Return whether a folder is in the work tree of a git repository; False without git."""
    if not shutil.which("git"):
        return False
    command = ["git", "rev-parse", "--is-inside-work-tree"]
    git = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return git.stdout.strip() == "true"
