"""The file of a SQLite database, which only its owner may read."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy.engine import URL

from catimage.errors import InputError


def create_file(address: URL) -> None:
    """Create the file of a SQLite database, and its folder, if they do not exist.

    The database contains the secret of the service, so others may not read it.

    Args:
        address: the address of the database. A URI of SQLite (``file:...``) is left as it is.

    Raises:
        InputError: the file cannot be created or opened.
    """
    name = address.database or ""
    if name.startswith("file:"):
        return
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"{path}: the database of the service cannot be opened ({reason}). Correct the path in"
            " CATIMAGE_STATE_URL, or the permissions."
        ) from error
