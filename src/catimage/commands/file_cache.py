"""A cache of values that are computed from the content of files, such as digests.

A value is reused while the size, the times and the inode of its file are unchanged. As in git, a
value is not stored if the file was changed in the last two seconds: a second change within the
resolution of the clock of the file system would not be noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from catimage.workspace import replacing

MIN_AGE_NS = 2_000_000_000
"""Minimum age of a change, in nanoseconds, for a value to be stored."""
MISSING, UNREADABLE = "missing", "unreadable"
"""The values of :meth:`FileCache.digest` for paths that are missing or cannot be read."""


class FileCache:
    """Values by file and kind of value, stored in a JSON file.

    A missing or damaged JSON file is an empty cache.

    Args:
        path: the JSON file.
        version: a text that identifies the functions that compute the values. Values that were
            stored with another version are ignored.
    """

    def __init__(self, path: Path, version: str) -> None:
        self._path, self._version = path, version
        self._stored = self._read()
        self._used: dict[str, list[Any]] = {}

    def get(self, kind: str, path: Path, compute: Callable[[Path], Any]) -> Any:
        """Return the value of a file, which ``compute`` computes if it is not in the cache.

        Args:
            kind: the kind of value.
            path: the file.
            compute: a function of the content of the file. Its value must be representable in JSON.

        Raises:
            OSError: the file cannot be read.
        """
        key = f"{kind} {path.resolve()}"
        state = _state(path)
        entry = self._used.get(key) or self._stored.get(key)
        if entry is None or entry[:-1] != state:
            entry = [*state, compute(path)]
            if _state(path) != state or time.time_ns() - max(state[1:3]) < MIN_AGE_NS:
                return entry[-1]
        self._used[key] = entry
        return entry[-1]

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file, or of the names and contents of the files in a folder.

        Files in ``__pycache__`` are ignored. The result for a path that does not exist is
        :data:`MISSING`, and :data:`UNREADABLE` if the user may not read a file.
        """
        try:
            if path.is_dir():
                files = sorted(files_in(path))
                lines = (f"{f.relative_to(path).as_posix()} {self._file(f)}\n" for f in files)
                return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
            return self._file(path) if path.is_file() else MISSING
        except OSError:
            return UNREADABLE

    def save(self) -> None:
        """Write the values that were used since the cache was read."""
        if self._used != self._stored:
            with replacing(self._path) as new:
                new.write_text(json.dumps({"version": self._version, "entries": self._used}))

    def _file(self, path: Path) -> str:
        return str(self.get("sha256", path, _sha256))

    def _read(self) -> dict[str, list[Any]]:
        try:
            document = json.loads(self._path.read_text())
            entries: dict[str, list[Any]] = document["entries"]
            return entries if document["version"] == self._version else {}
        except (OSError, ValueError, LookupError, TypeError):
            return {}


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, without those in ``__pycache__``."""
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (path for name in names if (path := Path(root, name)).is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path) -> list[int]:
    """Return the size, modification time (mtime), status change time (ctime) and inode."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
