"""Releases the pages of libraries that a process has mapped and does not need while it waits."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

_SMAPS = Path("/proc/self/smaps")
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (r-[x-]p) \S+ \S+ \d+ +/", re.ASCII)
_FIELD = re.compile(r"(Anonymous|Swap|Locked): +(\d+) kB", re.ASCII)
_MADV_DONTNEED = 4


def release_unchanged_pages() -> int:
    """Release the pages of mapped files that the process has only read, such as code of libraries.

    The next access reads a page again, mostly from the cache of the operating system. Only Linux
    has the file ``/proc/self/smaps``; nothing is released elsewhere. No other thread may run.

    Returns:
        The number of bytes of the mappings that were released.
    """
    if not _SMAPS.exists():
        return 0
    libc, released = ctypes.CDLL(None), 0
    for start, end in list(unchanged_mappings(_SMAPS.read_text(encoding="utf-8"))):
        size = end - start
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_DONTNEED) == 0:
            released += size
    return released


def unchanged_mappings(smaps: str) -> Iterator[tuple[int, int]]:
    """Return the first and last addresses of private mappings of files that cannot be written and
    have no page that differs from the file, such as one with relocated addresses.

    Args:
        smaps: the content of ``/proc/self/smaps`` (manual page proc_pid_smaps).
    """
    mapping: tuple[int, int] | None = None
    for line in [*smaps.splitlines(), "0-0 "]:
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            if mapping is not None:
                yield mapping
            found = _MAPPING.match(line)
            mapping = (int(found[1], 16), int(found[2], 16)) if found else None
        elif (field := _FIELD.match(line)) and int(field[2]):
            mapping = None
