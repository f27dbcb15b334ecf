"""API keys of the service: creation, list and revocation in the shared state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from catimage.params import load_params
from catimage.serving.messages import ApiKey
from catimage.serving.settings import load_environment
from catimage.serving.state.keys import KeyRecord
from catimage.serving.state.store import State
from catimage.workspace import Workspace


@contextmanager
def open_state(folder: Path) -> Iterator[State]:
    """Open the state of the service, and close it after the ``with`` block.

    Args:
        folder: the workspace, whose ``package.name`` is the name of the service. It is only read if
            ``CATIMAGE_STATE_URL`` is not set.

    Raises:
        InputError: the parameters are invalid, or the database cannot be used.
    """
    environment = load_environment()
    name = ""
    if not environment.state_url:
        name = load_params(Workspace(folder).params).package.name
    state = State.open(environment.state(name))
    try:
        yield state
    finally:
        state.close()


def create_key(
    folder: Path, name: str, budget: float | None, ceiling: float | None, rate_limit: str | None
) -> tuple[ApiKey, str]:
    """Create a key; return it with its secret, which is not stored."""
    with open_state(folder) as state:
        return state.keys.create(name, budget=budget, ceiling=ceiling, rate_limit=rate_limit)


def key_rows(folder: Path) -> list[dict[str, Any]]:
    """Return one row per key, with its cost in the current calendar month (UTC)."""
    with open_state(folder) as state:
        spent = state.spending.spent_by_key()
        return [_row(record, spent.get(record.key.key_id, 0.0)) for record in state.keys.list()]


def revoke_key(folder: Path, key_id: str) -> ApiKey:
    """Revoke a key and return it."""
    with open_state(folder) as state:
        return state.keys.revoke(key_id)


def _row(record: KeyRecord, spent: float) -> dict[str, Any]:
    key = record.key
    return {
        "id": key.key_id,
        "name": key.name,
        "created": _time(record.created),
        "revoked": None if record.revoked is None else _time(record.revoked),
        "budget": key.budget,
        "ceiling": key.ceiling,
        "rate_limit": key.rate_limit,
        "spent_this_month": spent,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
