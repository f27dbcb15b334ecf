"""Atomic replacement of files and folders that survives a kill and a power failure."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

_AT_FDCWD, _EXCHANGE = -100, 2
"""Constants of the system calls ``renameat2`` and ``renamex_np``."""
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of a file system that cannot exchange names, or cannot flush a folder."""
_ABANDONED_SECONDS = 7 * 24 * 3600
"""The age at which a temporary file of another machine or container is removed."""
_PROCESSES = Path("/proc/self/ns/pid")
"""The namespace of the numbers of processes on Linux."""


def _host() -> str:
    """Return a name of the machine or container in which numbers identify processes.

    Containers with equal host names may have processes with equal numbers.
    """
    name = re.sub(r"[^A-Za-z0-9-]+", "-", platform.node()) or "localhost"
    with suppress(OSError):
        return f"{name}-{_PROCESSES.stat().st_ino}"
    return name


_HOST = _host()


def temporary_path(path: Path, suffix: str = "new") -> Path:
    """Return a hidden name beside ``path``, which names this machine or container and this process.

    Args:
        path: the file or folder that will be replaced.
        suffix: ``new`` for a replacement that is being written, ``old`` for a previous version.
    """
    return path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.{suffix}")


def replace(new: Path, path: Path) -> None:
    """Replace ``path`` by ``new``; at every moment, ``path`` is the old or the new version.

    The content of ``new`` and the change of names are flushed to disk.
    """
    sync(new)
    if _is_folder(new) or _is_folder(path):
        swap(new, path)
        sync_folder(path.parent)
        remove(new)
    else:
        new.replace(path)
        sync_folder(path.parent)


def swap(first: Path, second: Path) -> None:
    """Exchange the names of two files or folders; if one does not exist, rename the other.

    Nothing happens if neither exists.

    Linux and macOS exchange names in one step. On file systems that cannot (some network file
    systems), ``second`` has a temporary name with the suffix ``old`` for a moment; if the process
    is killed at that moment, :func:`remove_leftovers` restores the name.
    """
    if not os.path.lexists(first) and not os.path.lexists(second):
        return
    if not os.path.lexists(second):
        first.rename(second)
    elif not os.path.lexists(first):
        second.rename(first)
    elif not _exchange(first, second):
        old = temporary_path(second, "old")
        remove(old)
        second.rename(old)
        try:
            first.rename(second)
        except BaseException:
            old.rename(second)
            raise
        old.rename(first)


def sync(path: Path) -> None:
    """Flush the content of a file, or of a folder with all files in it, to disk."""
    if path.is_symlink():
        return
    if path.is_dir():
        for child in path.iterdir():
            sync(child)
        sync_folder(path)
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush the names of the files in a folder to disk, so that they survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; do nothing if the path does not exist."""
    if _is_folder(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):  # on a read-only file system, unlink fails for any path
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files and folders of killed processes.

    An old version whose name was about to be used by the new version gets its name back. What
    cannot be removed, as in a read-only folder, is left.

    Args:
        folder: the folder; it need not exist.
        name: the name of a file or folder in it; None for all names.
    """
    pattern = re.compile(
        rf"\.(?P<name>{'.+' if name is None else re.escape(name)})"
        r"\.(?P<host>[A-Za-z0-9-]+)\.(?P<pid>\d+)\.(?P<suffix>new|old)"
    )
    with suppress(OSError):
        for path in list(folder.glob(".*.new")) + list(folder.glob(".*.old")):
            match = pattern.fullmatch(path.name)
            if match and _is_abandoned(path, match["host"], int(match["pid"])):
                target = folder / match["name"]
                if match["suffix"] == "old" and not os.path.lexists(target):
                    path.rename(target)
                else:
                    remove(path)


def _is_abandoned(path: Path, host: str, pid: int) -> bool:
    """Return whether the process that wrote a temporary path has ended.

    The temporary paths of this process are left by an earlier process with the same number.
    """
    if host != _HOST:
        return time.time() - path.lstat().st_mtime > _ABANDONED_SECONDS
    return pid == os.getpid() or not is_running(pid)


def is_running(pid: int) -> bool:
    """Return whether this machine runs a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; return False if the system or file system cannot."""
    function = _exchange_function()
    if function is None:
        return False
    if function(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))


@lru_cache(maxsize=1)
def _exchange_function() -> Callable[[bytes, bytes], int] | None:
    """Return the system's function that exchanges two names, or None if there is none."""
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "renameat2"):  # Linux
        linux = library.renameat2
        return lambda a, b: int(linux(_AT_FDCWD, a, _AT_FDCWD, b, _EXCHANGE))
    if hasattr(library, "renamex_np"):  # macOS
        macos = library.renamex_np
        return lambda a, b: int(macos(a, b, _EXCHANGE))
    return None
