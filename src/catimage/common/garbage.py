"""What ``catimage gc`` can remove."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Garbage:
    """A thing that is no longer needed.

    Attributes:
        kind: what it is, such as ``MLflow runs``.
        name: its name, for the list.
        size: its size in bytes; 0 if it is unknown.
        remove: removes it.
        number: the number of things that it stands for.
    """

    kind: str
    name: str
    size: int
    remove: Callable[[], object]
    number: int = 1


def size_of(path: Path) -> int:
    """Return the size of a file, or of all files in a folder, in bytes."""
    if not path.is_dir():
        return path.lstat().st_size if os.path.lexists(path) else 0
    files = (Path(root, name) for root, _, names in os.walk(path) for name in names)
    return sum(file.lstat().st_size for file in files)
