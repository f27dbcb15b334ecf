"""Reading of text files: encoding, byte order marks, and messages about unreadable files."""

from __future__ import annotations

import codecs
from pathlib import Path

from catimage.errors import InputError


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        InputError: the file does not exist or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: file not found. Check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the file ({error.strerror}). Check the path and its permissions."
        ) from error


def read_text(path: Path) -> str:
    """Return the text of a file, without a byte order mark and with its line ends unchanged.

    The file is in UTF-8, or in UTF-16 with a byte order mark, as spreadsheets write it.

    Raises:
        InputError: the file does not exist, cannot be read, is not UTF-8, or is empty.
    """
    return decode_text(read_bytes(path), str(path))


def decode_text(data: bytes, where: str) -> str:
    """Return bytes as text, see :func:`read_text`.

    Args:
        data: the bytes.
        where: the name of the file, or another origin, for messages.

    Raises:
        InputError: the bytes are not UTF-8, or the text is empty.
    """
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{where}: row {line} is not {'UTF-16' if utf16 else 'UTF-8'}. Save the file as UTF-8."
        ) from error
    if not text.strip():
        raise InputError(f"{where}: the file is empty. Add at least one row.")
    return text
