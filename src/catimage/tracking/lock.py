"""A lock in the registry, so that one process at a time moves an alias.

MLflow has no request that compares and sets. Its database refuses a second registered model of the
same name, so a model whose name ends with a number is the lock, and the process that has created
the model with the largest number holds it. The holder releases the lock by a tag and leaves the
model; the next holder creates the next number and deletes the smaller ones. Two processes cannot
create the same number, and the largest number is never deleted.

A holder that was killed does not release the lock. A process that has watched it for
:data:`LEASE` seconds without a change creates the next number. The holder checks before it moves an
alias that it has not been replaced in this way. What remains is a process that stops for longer
than the lease between this check and the request that follows; after it, the alias is read back.

A SQLite database needs none of this: it is locked by a file (:mod:`catimage.tracking.local_store`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from catimage.errors import InputError
from catimage.tracking.client import MODEL

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PREFIX = f"{MODEL}-lock-"
"""Start of the names of the registered models that are locks; a number follows."""
RELEASED = "released"
"""Name of the tag of a lock that its holder has released."""
LEASE = 30.0
"""Seconds after which a lock is taken from its holder. The holder needs about a second."""
POLL = 0.2
"""Seconds between two requests for the state of the lock."""
_TEXT = "Lock of CATImage, so that one process at a time moves an alias (docs/promotion.md)."


class ConflictError(InputError):
    """Another process has changed the registry in the meantime; the same command may succeed."""


@contextmanager
def registry_lock(client: MlflowClient) -> Iterator[Callable[[], None]]:
    """Hold the lock of the registry inside the ``with`` block.

    Yields:
        A function that raises ConflictError if the lock was taken from this process.
    """
    if client.tracking_uri.startswith("sqlite"):
        yield lambda: None
        return
    number = _acquire(client)

    def check() -> None:
        if max(_locks(client), default=0) != number:
            raise ConflictError(
                f"MLflow: another process has taken the lock of {MODEL!r}, because this one did not"
                f" respond for {LEASE:g} seconds. Run the command again."
            )

    try:
        yield check
    finally:
        with _ignored("RESOURCE_DOES_NOT_EXIST"):
            client.set_registered_model_tag(f"{PREFIX}{number}", RELEASED, "true")


def _acquire(client: MlflowClient) -> int:
    """Create the lock with the next number, when its predecessor is released; return the number."""
    watched, since = 0, time.monotonic()
    while True:
        locks = _locks(client)
        last = max(locks, default=0)
        if last != watched:
            watched, since = last, time.monotonic()
        held = last and not locks[last]
        if held and time.monotonic() - since < LEASE:
            time.sleep(POLL)
        elif _create(client, last + 1):
            for number in _locks(client).keys() - {last + 1}:
                _delete(client, number)
            return last + 1


def _locks(client: MlflowClient) -> dict[int, bool]:
    """Return whether each lock is released, by its number."""
    models = client.search_registered_models(f"name LIKE '{PREFIX}%'")
    numbers = {model.name.removeprefix(PREFIX): RELEASED in model.tags for model in models}
    return {int(number): released for number, released in numbers.items() if number.isdecimal()}


def _create(client: MlflowClient, number: int) -> bool:
    """Create a lock; return whether it is the largest, and no other process has created it."""
    with _ignored("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):  # created, and deleted
        client.create_registered_model(f"{PREFIX}{number}", description=_TEXT)
        if max(_locks(client)) == number:
            return True
        _delete(client, number)  # another process has held a larger one in the meantime
    return False


def _delete(client: MlflowClient, number: int) -> None:
    """Delete a lock, unless another process has."""
    with _ignored("RESOURCE_DOES_NOT_EXIST"):
        client.delete_registered_model(f"{PREFIX}{number}")


@contextmanager
def _ignored(*codes: str) -> Iterator[None]:
    """Ignore errors of MLflow with some codes."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise
