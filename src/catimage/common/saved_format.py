"""The version of the format of a saved router or estimator."""

from __future__ import annotations

from pathlib import Path

from catimage.errors import InputError


def check_format(folder: Path, kind: str, found: object, current: int) -> None:
    """Check that this version of CATImage can read a folder.

    Args:
        folder: the folder, for the message.
        kind: what it contains, such as ``router``.
        found: the version of the format in its document; None if there is none.
        current: the version that this version of CATImage writes.

    Raises:
        InputError: the format is older or newer.
    """
    if found == current:
        return
    if isinstance(found, int) and found > current:
        raise InputError(
            f"{folder}: a newer version of CATImage wrote this {kind} (format {found}; this version"
            f" reads {current}). Install that version, or run 'catimage train' and 'catimage"
            " calibrate' again."
        )
    raise InputError(
        f"{folder}: an older version of CATImage wrote this {kind} (format {found or 'unknown'};"
        f" this version reads {current}). Run 'catimage train' and 'catimage calibrate' again."
    )
