"""One writer at a time: killing ``dvc repro`` can leave its stage running, and the next run must
not write beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from catimage.errors import InputError


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Holds the lock of ``output``, a file ``.NAME.lock`` beside it. The system lets go of it when
    the process ends, however it does.

    Raises:
        InputError: another process holds it.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_name(f".{output.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            f"{output} is being written by another process, which holds {path}: wait for it to end,"
            " or end it."
        ) from error
    try:
        yield
    finally:
        lock.release()
