"""What identifies a folder by its content."""

from __future__ import annotations

import hashlib
from pathlib import Path


def folder_digest(folder: Path, endings: tuple[str, ...] = ("",)) -> str:
    """SHA-256 over the names and contents of a folder's files, compiled Python aside, or of those
    with one of the ``endings``.
    """
    total = hashlib.sha256()
    files = (
        p
        for p in folder.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and p.name.endswith(endings)
    )
    for path in sorted(files):
        with path.open("rb") as file:
            part = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {part}\n".encode())
    return total.hexdigest()
