"""The version of the format of a workspace, in the file ``catimage.json``.

The format covers the names of the files, the keys of ``params.yaml`` and the columns of the tables.
A workspace without the file has format 1; ``catimage upgrade`` migrates it.
"""

from __future__ import annotations

import json
from pathlib import Path

from catimage.common.files import damage_reported_with_fix
from catimage.errors import InputError

FORMAT_FILE = "catimage.json"
"""Name of the file in the workspace."""
WORKSPACE_FORMAT = 2
"""The version that this version of CATImage writes; older ones are read."""
_FIX = "Restore the file from git, or remove it and run 'catimage upgrade'."


def workspace_format(root: Path) -> int:
    """Return the version of the format of a workspace.

    Raises:
        InputError: the file is damaged, or a newer version of CATImage wrote it.
    """
    path = root / FORMAT_FILE
    if not path.exists():
        return 1
    with damage_reported_with_fix(path, _FIX, _FIX):
        number = json.loads(path.read_text(encoding="utf-8"))["format"]
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InputError(f"{path}: 'format' is not a version of the format. {_FIX}")
    if number > WORKSPACE_FORMAT:
        raise InputError(
            f"{path}: a newer version of CATImage wrote this workspace (format {number}; this"
            f" version reads up to {WORKSPACE_FORMAT}). Install that version."
        )
    return number


def format_text() -> str:
    """Return the content of the file of a workspace in the present format."""
    return json.dumps({"format": WORKSPACE_FORMAT}) + "\n"
