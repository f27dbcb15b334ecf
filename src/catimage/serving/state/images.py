"""Encoded images behind signed URLs: deleted when they expire, and limited in total size."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable

from sqlalchemy import Connection, delete, func, insert, select

from catimage.serving.messages import ServingError
from catimage.serving.state.database import Database
from catimage.serving.state.tables import images

MAX_BYTES = 2 * 2**30
"""Default of the largest total size of all images."""
_LOG = logging.getLogger(__name__)


class Images:
    """The table of images."""

    def __init__(
        self,
        database: Database,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._clock, self._max_bytes = database, clock, max_bytes

    def put(self, data: bytes, media_type: str, lifetime: float) -> str:
        """Store an image; if there is no room, those that expire first are deleted.

        Args:
            data: the bytes of the file.
            media_type: its type, such as ``image/png``.
            lifetime: seconds until it expires.

        Returns:
            A random token of 32 characters for :meth:`get`, which also identifies its URL.

        Raises:
            ServingError: the image is larger than the whole store, or the database cannot be used
                (503).
        """
        if len(data) > self._max_bytes:
            raise ServingError(
                "response_format: the image is too large to be stored. Use b64_json.",
                503,
                "storage_full",
                retryable=False,
            )
        token, expires = secrets.token_urlsafe(24), self._clock() + lifetime
        row = {"token": token, "media_type": media_type, "size": len(data), "expires": expires}
        with self._database.write() as connection:
            connection.execute(insert(images).values(**row, data=data))
        if self.total_bytes() > self._max_bytes:
            self._make_room(token)
        return token

    def get(self, token: str) -> tuple[bytes, str] | None:
        """Return an image and its media type; None if it is unknown or has expired."""
        query = select(images.c.data, images.c.media_type)
        with self._database.read() as connection:
            query = query.filter_by(token=token).where(images.c.expires > self._clock())
            row = connection.execute(query).first()
        return None if row is None else (bytes(row[0]), row[1])

    def total_bytes(self) -> int:
        """Return the total size of the stored images, in bytes."""
        with self._database.read() as connection:
            return _total(connection)

    def purge(self) -> int:
        """Delete the images that have expired; return their number."""
        with self._database.write() as connection:
            return _delete_expired(connection, self._clock())

    def expired(self) -> tuple[int, int]:
        """Return the number and the bytes of the images that have expired."""
        query = select(func.count(), func.coalesce(func.sum(images.c.size), 0))
        with self._database.read() as connection:
            row = connection.execute(query.where(images.c.expires <= self._clock())).one()
        return int(row[0]), int(row[1])

    def _make_room(self, new: str) -> None:
        """Delete other images than the new one until the total size is within the limit."""
        with self._database.write() as connection:
            self._database.lock(connection, images.name)
            _delete_expired(connection, self._clock())
            tokens = _first_to_expire(connection, _total(connection) - self._max_bytes, new)
            connection.execute(delete(images).where(images.c.token.in_(tokens)))
        if tokens:
            _LOG.warning("%d stored images were deleted before they expired: no room", len(tokens))


def _total(connection: Connection) -> int:
    return int(connection.scalar(select(func.sum(images.c.size))) or 0)


def _delete_expired(connection: Connection, now: float) -> int:
    return connection.execute(delete(images).where(images.c.expires <= now)).rowcount


def _first_to_expire(connection: Connection, excess: int, new: str) -> list[str]:
    """Return the tokens of the images that expire first and have at least ``excess`` bytes."""
    tokens: list[str] = []
    others = select(images.c.token, images.c.size).where(images.c.token != new)
    for token, size in connection.execute(others.order_by(images.c.expires)):
        if excess <= 0:
            break
        tokens.append(token)
        excess -= size
    return tokens
