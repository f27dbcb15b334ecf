"""A lock file that allows only one process at a time to write an output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from catimage.errors import InputError


@contextmanager
def write_lock(output: Path) -> Iterator[None]:
    """Hold the lock of ``output``: the file ``.NAME.lock`` in the folder of the output.

    A killed ``dvc repro`` can leave the process of its stage running; the lock stops the next run
    from writing at the same time. The operating system releases the lock when the process ends for
    any reason.

    Raises:
        InputError: another process holds the lock.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_name(f".{output.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            f"{output}: another process is writing it and holds the lock {path}. Wait for that"
            " process to end, or stop it."
        ) from error
    try:
        yield
    finally:
        lock.release()
