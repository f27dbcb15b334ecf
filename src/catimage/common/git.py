"""The git commit of a folder."""

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
