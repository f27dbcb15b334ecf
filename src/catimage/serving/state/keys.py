"""API keys: stored as hashes, compared in constant time, and verified without a query."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from catimage.errors import InputError
from catimage.serving.messages import ApiKey, ServingError
from catimage.serving.state.database import Database
from catimage.serving.state.failures import state_unavailable
from catimage.serving.state.key_checks import check_key
from catimage.serving.state.schema import insert_if_absent
from catimage.serving.state.tables import keys, meta

GRACE_SECONDS = 60.0
"""Time for which the known keys are accepted while the database does not respond."""
_SECRET = re.compile(r"cat-([0-9a-f]{12})-[A-Za-z0-9_-]{43}")
_CHANGES = "key_changes"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeyRecord:
    """A row of the table of keys.

    Attributes:
        key: the key.
        created: time of its creation, in seconds since the epoch.
        revoked: time of its revocation; None if it is valid.
    """

    key: ApiKey
    created: float
    revoked: float | None


@dataclass(frozen=True)
class _Snapshot:
    """The valid keys at one time: ``valid`` maps key ids to the key and its digest."""

    valid: Mapping[str, tuple[ApiKey, str]] = field(default_factory=dict)
    exist: bool = False
    changes: str | None = None
    read: float = -float("inf")


class Keys:
    """The API keys. All valid keys are in memory; the database is polled for changes.

    So neither a valid nor an invalid secret needs a query, and invalid ones use no memory.
    """

    def __init__(
        self,
        database: Database,
        refresh_seconds: float = 1.0,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._clock, self._timer = database, clock, timer
        self._refresh_seconds = refresh_seconds
        self._snapshot, self._failure = _Snapshot(), ""
        self._tried = -float("inf")
        self._lock = threading.Lock()

    @property
    def fresh(self) -> bool:
        """Whether ``verify`` and ``exist`` answer without a query now, so do not block."""
        return self._timer() - self._tried < self._refresh_seconds

    def verify(self, secret: str) -> ApiKey | None:
        """Return the key with a secret; None if there is none, or it was revoked.

        The time does not depend on which part of a secret is wrong. A key that another process
        creates or revokes is noticed after ``refresh_seconds``.

        Raises:
            ServingError: the database cannot be used (503). For a minute, the last known keys
                remain valid.
        """
        snapshot = self._current()
        match = _SECRET.fullmatch(secret)
        key, digest = snapshot.valid.get(match[1] if match else "", (None, "0" * 64))
        equal = hmac.compare_digest(_digest(secret), digest)
        return key if equal else None

    def current(self, key_id: str) -> ApiKey | None:
        """Return the valid key with an id; None if it was revoked. Raises as :meth:`verify`."""
        return self._current().valid.get(key_id, (None, ""))[0]

    def exist(self) -> bool:
        """Return whether keys are configured: whether one was ever created.

        Revoked keys count, so that requests without a key are not accepted after the last key is
        revoked.

        Raises:
            ServingError: the database cannot be used (503).
        """
        return self._current().exist

    def create(
        self,
        name: str,
        *,
        budget: float | None = None,
        ceiling: float | None = None,
        rate_limit: str | None = None,
    ) -> tuple[ApiKey, str]:
        """Create a key.

        Args:
            name: name of the client, for lists and metrics; several keys may have the same name.
            budget: limit of the mean cost per image of the key's requests.
            ceiling: largest total cost per calendar month (UTC).
            rate_limit: number of requests per unit of time, such as ``60/minute``.

        Returns:
            The key and its secret, which is not stored.

        Raises:
            InputError: a value is invalid.
            ServingError: the database cannot be used (503).
        """
        check_key(name, budget, ceiling, rate_limit)
        secret = secrets.token_urlsafe(32)
        key = ApiKey(secrets.token_hex(6), name, budget, ceiling, rate_limit)
        text = f"cat-{key.key_id}-{secret}"
        row = {**vars(key), "digest": _digest(text), "created": self._clock()}
        with self._database.write(durable=True) as connection:
            if not insert_if_absent(connection, keys, **row):
                raise InputError(f"{key.key_id}: the id of the new key is in use. Try again.")
            _count_change(connection)
        self._tried = -float("inf")
        return key, text

    def list(self) -> list[KeyRecord]:
        """Return all keys in the order of their creation, the revoked ones too."""
        with self._database.read() as connection:
            rows = connection.execute(select(keys).order_by(keys.c.created, keys.c.key_id))
            return [KeyRecord(_api_key(row), row.created, row.revoked) for row in rows]

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key. The replicas refuse it after at most ``refresh_seconds``.

        Raises:
            InputError: no valid key has the id.
            ServingError: the database cannot be used (503).
        """
        with self._database.write(durable=True) as connection:
            row = connection.execute(
                update(keys)
                .filter_by(key_id=key_id, revoked=None)
                .values(revoked=self._clock())
                .returning(keys)
            ).first()
            if row is None:
                raise InputError(
                    f"key {key_id[:40]!r}: no valid key has this id. See 'catimage keys list'."
                )
            _count_change(connection)
        self._tried = -float("inf")
        return _api_key(row)

    def _current(self) -> _Snapshot:
        """Return the valid keys, read again if they are older than ``refresh_seconds``.

        Only one thread reads; the others use the known keys meanwhile.
        """
        if not self.fresh and self._lock.acquire(blocking=not self._usable):
            try:
                if not self.fresh:
                    self._refresh()
            finally:
                self._lock.release()
        if not self._usable:
            raise state_unavailable(self._failure)
        return self._snapshot

    @property
    def _usable(self) -> bool:
        """Whether the known keys are valid, though the database may not respond."""
        return self._timer() - self._snapshot.read <= GRACE_SECONDS + self._refresh_seconds

    def _refresh(self) -> None:
        now = self._timer()
        try:
            self._snapshot, self._failure = self._read(self._snapshot, now), ""
            self._tried = now
        except ServingError as error:
            # The threads that wait for this one fail too, instead of each waiting for the database.
            self._failure, self._tried = error.message, self._timer()
            _LOG.warning("the last known API keys remain valid for a minute: %s", error)

    def _read(self, old: _Snapshot, now: float) -> _Snapshot:
        with self._database.read() as connection:
            changes = connection.scalar(select(meta.c.value).filter_by(name=_CHANGES)) or "0"
            if changes == old.changes:
                return _Snapshot(old.valid, old.exist, changes, now)
            rows = connection.execute(select(keys).filter_by(revoked=None)).all()
            exist = bool(connection.scalar(select(func.count()).select_from(keys)))
        valid = {row.key_id: (_api_key(row), row.digest) for row in rows}
        return _Snapshot(valid, exist, changes, now)


def _count_change(connection: Connection) -> None:
    insert_if_absent(connection, meta, name=_CHANGES, value="0")
    query = select(meta.c.value).filter_by(name=_CHANGES).with_for_update()
    count = int(connection.execute(query).scalar_one()) + 1
    connection.execute(update(meta).filter_by(name=_CHANGES).values(value=str(count)))


def _digest(secret: str) -> str:
    """Return the SHA-256. The secrets are random (256 bits), so a slow hash would add nothing."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _api_key(row: Row[Any]) -> ApiKey:
    return ApiKey(row.key_id, row.name, row.budget, row.ceiling, row.rate_limit)
