"""The tables of the shared state. Times are seconds since the epoch (UTC)."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA_VERSION = 2
"""Version of the tables. A database with a newer version is refused, one with an older version is
migrated by ``catimage upgrade``. Schema 1 may have the column ``rate`` instead of ``rate_limit``.
"""

metadata = MetaData()

meta = Table(
    "catimage_meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single values: the schema version, the secret of the service, counters of changes."""

keys = Table(
    "catimage_keys",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created", Double, nullable=False),
    Column("revoked", Double),
    Column("budget", Double),
    Column("ceiling", Double),
    Column("rate_limit", String(64)),
)
"""API keys. ``digest`` is the SHA-256 of the secret; the secret itself is not stored."""

spending = Table(
    "catimage_spending",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("month", String(7), primary_key=True),
    Column("spent", Double, nullable=False),
)
"""Settled cost by key and calendar month (UTC), such as ``2026-11``."""

reservations = Table(
    "catimage_reservations",
    metadata,
    Column("reservation_id", String(32), primary_key=True),
    Column("key_id", String(32), nullable=False),
    Column("month", String(7), nullable=False),
    Column("cost", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Index("catimage_reservations_by_key", "key_id", "month", "expires", "cost"),
)
"""Cost of requests in progress. A reservation that has expired no longer counts."""

budgets = Table(
    "catimage_budgets",
    metadata,
    Column("scope", String(200), primary_key=True),
    Column("lam", Double),
    Column("requests", Double, nullable=False),
    Column("images", Double, nullable=False),
    Column("cost", Double, nullable=False),
    Column("updated", Double, nullable=False),
)
"""State of the budget controllers."""

jobs = Table(
    "catimage_jobs",
    metadata,
    Column("job_id", String(40), primary_key=True),
    Column("key_id", String(32)),
    Column("status", String(16), nullable=False),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("heartbeat", Double),
    Column("worker", String(128)),
    Column("attempts", Integer, nullable=False),
    Column("request", Text, nullable=False),
    Column("result", Text),
    Column("error", Text),
    Index("catimage_jobs_by_status", "status", "created"),
    Index("catimage_jobs_by_key", "key_id", "created"),
)
"""Image requests that are answered later. ``request``, ``result`` and ``error`` are JSON."""

images = Table(
    "catimage_images",
    metadata,
    Column("token", String(64), primary_key=True),
    Column("media_type", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("expires", Double, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("catimage_images_by_expiry", "expires", "size"),
)
"""Encoded images behind the signed URLs."""

rollouts = Table(
    "catimage_rollouts",
    metadata,
    Column("role", String(16), primary_key=True),
    Column("version", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("shadow", Boolean, nullable=False),
    Column("share", Double, nullable=False),
    Column("published", Double, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("archive", LargeBinary, nullable=False),
)
"""The routers that every replica loads, as archives. ``sha256`` is that of the archive."""

replicas = Table(
    "catimage_replicas",
    metadata,
    Column("replica_id", String(128), primary_key=True),
    Column("version", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("challenger", String(64), nullable=False),
    Column("challenger_digest", String(64), nullable=False),
    Column("shadow", Boolean, nullable=False),
    Column("share", Double, nullable=False),
    Column("problem", Text, nullable=False),
    Column("seen", Double, nullable=False),
)
"""The running replicas, with the routers that each one serves."""
