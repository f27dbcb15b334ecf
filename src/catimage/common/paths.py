"""Paths in files of users."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath


def existing_path(folder: Path, name: str) -> Path:
    """Return a path that a file names; backslashes separate folders if there is no such file.

    Args:
        folder: the folder that relative paths start from.
        name: the path in the file, as written on any operating system.
    """
    path = folder / name
    if "\\" in name and not path.exists():
        return folder / PureWindowsPath(name).as_posix()
    return path
