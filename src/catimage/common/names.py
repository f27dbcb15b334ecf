"""Names that users choose and that become names of files and folders, such as those of metrics."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata

from catimage.errors import InputError

MAX_BYTES = 150
"""The largest size of a name in UTF-8. File systems allow 255 bytes, and suffixes are added."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def name_problem(name: str, slashes: bool = False) -> str | None:
    """Return the reason why a name cannot be the name of a file or folder; None if it can.

    Args:
        name: the name.
        slashes: whether the name may have parts separated by slashes, such as ``owner/model``. Such
            a name is never the name of a file, but must not be a path out of a folder either.
    """
    parts = name.split("/") if slashes else [name]
    if not name.strip():
        return "is empty"
    if name != name.strip():
        return "begins or ends with white space"
    if not slashes and "/" in name:
        return "contains a slash"
    if "\\" in name:
        return "contains a backslash"
    if any(not part or part.startswith(".") for part in parts):
        return "is a path" if slashes else "begins with a full stop"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return "contains a control character"
    if len(name.encode()) > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    return None


def check_name(name: str, where: str, slashes: bool = False) -> None:
    """Check a name that becomes the name of a file or folder; see :func:`name_problem`.

    Args:
        name: the name.
        where: the file and row, or the key, and the kind of the name, such as
            ``scores.csv: row 2: the metric``.
        slashes: whether the name may have parts separated by slashes.

    Raises:
        InputError: the name cannot be the name of a file.
    """
    problem = name_problem(name, slashes)
    if problem:
        raise InputError(
            f"{where} {name[:MAX_BYTES]!r} {problem}. Rename it: use letters, digits and the"
            " characters - _ . only."
        )


def folder_name(*parts: str) -> str:
    """Return the name of a folder for a list of texts; different lists have different names.

    The name of a single plain text is the text. Other names are the texts with other characters
    replaced by hyphens, and a hash of the texts.
    """
    if len(parts) == 1 and _PLAIN.fullmatch(parts[0]):
        return parts[0]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(part for part in parts if part))
    return f"{readable.strip('-.')[:MAX_BYTES]}-{digest}"
