"""Folders that the processes of one run of pytest share, so that only one process creates each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def shared_folder(
    factory: pytest.TempPathFactory, name: str, create: Callable[[Path], object]
) -> Path:
    """Return a folder that no test may change.

    Args:
        factory: pytest's factory of temporary folders.
        name: the name of the folder.
        create: writes the contents to an empty folder; its path is not that of the result.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, new = base / name, base / f"{name}.new"
    with FileLock(base / f"{name}.lock"):
        if not folder.exists():
            new.mkdir()
            create(new)
            new.rename(folder)
    return folder
