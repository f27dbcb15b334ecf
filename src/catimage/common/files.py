"""Errors of damaged and missing files, without the messages of the libraries that read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError

from catimage.errors import InputError

_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    BadZipFile,
    ZlibError,
)
"""Exceptions that libraries raise when they read a truncated or altered file."""


@contextmanager
def damage_reported(path: Path, command: str, *errors: type[Exception]) -> Iterator[None]:
    """Raise InputError if the file that the ``with`` block reads is missing or damaged.

    The error message does not contain the message of the library that reads the file. Errors of
    permissions are not changed.

    Args:
        path: the file.
        command: the command that writes the file, such as ``train``.
        errors: further exceptions that mean that the file is damaged.

    Raises:
        InputError: the file does not exist or is damaged.
    """
    first, again = f"Run 'catimage {command}' first.", f"Run 'catimage {command}' again."
    with damage_reported_with_fix(path, first, again, *errors):
        yield


@contextmanager
def damage_reported_with_fix(
    path: Path, missing: str, damaged: str, *errors: type[Exception]
) -> Iterator[None]:
    """Raise InputError as :func:`damage_reported`, for files that no command writes again.

    Args:
        path: the file.
        missing: the sentence that says what to do if the file does not exist.
        damaged: the sentence that says what to do if it is damaged.
        errors: further exceptions that mean that the file is damaged.

    Raises:
        InputError: the file does not exist or is damaged.
    """
    damage: tuple[type[Exception], ...] = (*_DAMAGE, *errors)
    try:
        yield
    except (InputError, PermissionError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: not found. {missing}") from error
    except damage as error:
        raise InputError(f"{path}: the file is damaged. {damaged}") from error


def check_undamaged(source: str | Path) -> None:
    """Check the JSON and safetensors files of weights that a library could not load.

    Args:
        source: a folder, searched recursively; if there is no such folder, nothing is checked.

    Raises:
        InputError: a file is truncated or otherwise damaged.
    """
    folder = Path(source).expanduser()
    if folder.is_dir() and (path := _damaged_file(folder)):
        raise InputError(f"{path}: the file is damaged. Copy or download it again.")


def _damaged_file(folder: Path) -> Path | None:
    """Return the first JSON or safetensors file in a folder that cannot be read."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.rglob("*")):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(path, framework="numpy"):
                    pass
        except (OSError, ValueError, SafetensorError):
            return path
    return None


def read_json(path: Path, command: str) -> dict[str, Any]:
    """Read a JSON file that this package has written.

    Args:
        path: the file.
        command: the command that writes the file, for error messages.

    Raises:
        InputError: the file does not exist, is damaged, or does not contain a JSON object.
    """
    with damage_reported(path, command):
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise TypeError("not an object")
        return document
