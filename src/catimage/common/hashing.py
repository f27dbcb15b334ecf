"""Content hashes of files and folders."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of the content of a file, as a hex string."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path, suffixes: tuple[str, ...] = ("",)) -> str:
    """Return the SHA-256 of the names and contents of the files in a folder, as a hex string.

    Args:
        folder: the folder, read recursively. Files in ``__pycache__`` are ignored.
        suffixes: only files whose names end with one of these strings are included.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.name.endswith(suffixes):
            total.update(f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n".encode())
    return total.hexdigest()


def version_digest(path: Path) -> str | None:
    """Return the digest of a file or folder; None if it does not exist."""
    if not path.exists():
        return None
    return folder_digest(path) if path.is_dir() else file_digest(path)
