"""Messages for errors of the operating system, such as a full disk or a read-only workspace."""

from __future__ import annotations

import errno
import os
import re

_MESSAGES = {
    errno.ENOSPC: ("no space is left on the disk", "Free space, and run the command again"),
    errno.EDQUOT: ("the disk quota is used up", "Free space, and run the command again"),
    errno.EFBIG: (
        "the file would be larger than the limit of the system",
        "Raise the limit (ulimit -f), and run the command again",
    ),
    errno.EROFS: (
        "the file system is read-only",
        "Make it writable, or copy the workspace to another file system",
    ),
    errno.EACCES: ("permission denied", "Change the permissions of the file or of its folder"),
    errno.EPERM: ("permission denied", "Change the permissions of the file or of its folder"),
    errno.EISDIR: ("is a folder, not a file", "Rename or remove it, or give the path of a file"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Correct the path"),
    errno.ENAMETOOLONG: ("the name is too long", "Give a shorter name"),
    errno.EIO: ("the disk reports an error of reading or writing", "Check the disk"),
    errno.EMFILE: (
        "too many files are open",
        "Raise the limit (ulimit -n), and run the command again",
    ),
}
"""The problem and its fix by error number."""
_NUMBER = re.compile(r"\[Errno (\d+)\]")
"""The error number in the text of a ``shutil.Error``, which contains several errors as text."""


def os_error_message(error: OSError) -> str | None:
    """Return the problem and its fix, or None for an error that the user cannot fix.

    Args:
        error: an error of the operating system.
    """
    code = error.errno
    if code is None and (number := _NUMBER.search(str(error.args))):  # shutil.copytree
        code = int(number[1])
    if code not in _MESSAGES:
        return None
    problem, fix = _MESSAGES[code]
    name = error.filename
    path = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) else ""
    return f"{path}{problem}. {fix}."
