"""The alias ``champion``: compare and set, and the history of the champions.

A process holds the lock of the registry (:mod:`catimage.tracking.lock`) while it compares and sets.

The tag ``champions`` of the registered model is a JSON list of versions, the current champion last.
The history is written before the alias is moved. If a process is killed in between, the next reader
ignores the versions after the champion.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from catimage.errors import InputError
from catimage.tracking.client import CHALLENGER, CHAMPION, MODEL
from catimage.tracking.lock import ConflictError, registry_lock
from catimage.tracking.versions import move_alias, version_with_alias

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

HISTORY_TAG = "champions"
"""Name of the tag of the registered model that stores the history."""
LONGEST_HISTORY = 100
"""Maximum number of versions in the history."""


def champion_history(client: MlflowClient) -> list[str]:
    """Return the versions that have been champion, the current one last; empty without one.

    Promotions before a rollback are not part of it.

    Raises:
        InputError: the tag is damaged.
    """
    champion = version_with_alias(client, CHAMPION)
    if champion is None:
        return []
    stored = client.get_registered_model(MODEL).tags.get(HISTORY_TAG, "[]")
    try:
        history = [str(version) for version in json.loads(stored)]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"MLflow: the tag {HISTORY_TAG!r} of {MODEL!r} is not a JSON list. Correct or delete"
            " it."
        ) from error
    if champion not in history:
        return [*history, champion]
    last = len(history) - 1 - history[::-1].index(champion)
    return history[: last + 1]


def set_champion(
    client: MlflowClient, version: str, expected: str | None, history: list[str] | None = None
) -> None:
    """Make a version the champion if the champion is the expected one.

    Args:
        client: a client of the MLflow server.
        version: the new champion.
        expected: the present champion; None if there should be none.
        history: the new history; by default, the present one and the new champion.

    Raises:
        ConflictError: another process has changed the champion; nothing has been changed.
    """
    with registry_lock(client) as check_lock:
        found = version_with_alias(client, CHAMPION)
        if found != expected:
            raise ConflictError(
                f"MLflow: the champion of {MODEL!r} is version {found or 'none'} and no longer"
                f" version {expected or 'none'}: another process has changed it. Run the command"
                " again."
            )
        if found == version:
            return
        new = [*champion_history(client), version] if history is None else history
        client.set_registered_model_tag(MODEL, HISTORY_TAG, json.dumps(new[-LONGEST_HISTORY:]))
        check_lock()
        move_alias(client, CHAMPION, version)


def remove_champion(client: MlflowClient, expected: str) -> None:
    """Remove the alias ``champion`` from the expected version, after a promotion that failed.

    Raises:
        ConflictError: another process has changed the champion; nothing has been changed.
    """
    with registry_lock(client) as check_lock:
        if version_with_alias(client, CHAMPION) != expected:
            raise ConflictError(
                f"MLflow: another process has changed the champion of {MODEL!r} after it became"
                f" version {expected}. Check it, and run the command again."
            )
        check_lock()
        client.delete_registered_model_alias(MODEL, CHAMPION)


def set_challenger(client: MlflowClient, version: str) -> None:
    """Give a version the alias ``challenger``, and read it back."""
    with registry_lock(client):
        move_alias(client, CHALLENGER, version)
