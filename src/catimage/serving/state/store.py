"""The shared state of the service: budgets, keys, spending, jobs, images and rollouts."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from sqlalchemy import select

from catimage.serving.state.budgets import Budgets
from catimage.serving.state.database import Database
from catimage.serving.state.images import MAX_BYTES, Images
from catimage.serving.state.jobs import Jobs
from catimage.serving.state.keys import Keys
from catimage.serving.state.replicas import Replicas
from catimage.serving.state.rollouts import Rollouts
from catimage.serving.state.schema import create_tables, insert_if_absent
from catimage.serving.state.spending import Spending
from catimage.serving.state.tables import meta


class State:
    """The shared state. All methods may be called from any thread, and block while they query.

    Attributes:
        place: the database without user name and password, for messages and logs.
        budgets: the state of the budget controllers.
        keys: the API keys.
        spending: the cost of each key in the current month, and its ceiling.
        jobs: image requests that are answered later.
        images: encoded images behind signed URLs.
        rollouts: the routers that all replicas load.
        replicas: the running replicas.
    """

    def __init__(
        self,
        database: Database,
        refresh_seconds: float,
        max_image_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self.place = database.place
        self.budgets = Budgets(database, clock)
        self.keys = Keys(database, refresh_seconds, clock)
        self.spending = Spending(database, clock)
        self.jobs = Jobs(database, clock)
        self.images = Images(database, max_image_bytes, clock)
        self.rollouts = Rollouts(database, clock)
        self.replicas = Replicas(database, clock)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        refresh_seconds: float = 1.0,
        max_image_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> State:
        """Connect to a database and create the tables that do not exist.

        Args:
            url: address of a SQLite file (``sqlite:////folder/state.db``) or of a PostgreSQL
                database (``postgresql+psycopg://user:password@host/database``).
            refresh_seconds: interval at which changes of the keys are read.
            max_image_bytes: largest total size of the stored images.
            clock: the time in seconds since the epoch; the clocks of all replicas have to agree.

        Raises:
            InputError: the address is invalid, or a newer version created the tables.
            ServingError: the database cannot be used (503).
        """
        database = Database(url)
        try:
            create_tables(database)
        except BaseException:
            database.close()
            raise
        return cls(database, refresh_seconds, max_image_bytes, clock)

    def secret(self, name: str = "secret") -> bytes:
        """Return a random secret that all replicas share; the first call creates it.

        Args:
            name: name of the secret.

        Returns:
            32 bytes.

        Raises:
            ServingError: the database cannot be used (503).
        """
        query = select(meta.c.value).filter_by(name=f"secret:{name}")
        with self._database.read() as connection:
            value = connection.scalar(query)
        if value is None:
            with self._database.write(durable=True) as connection:
                new = secrets.token_hex(32)
                insert_if_absent(connection, meta, name=f"secret:{name}", value=new)
                value = connection.execute(query).scalar_one()
        return bytes.fromhex(value)

    def check(self) -> None:
        """Check that the database answers.

        Raises:
            ServingError: it does not (503).
        """
        with self._database.read() as connection:
            connection.execute(select(1))

    def purge(self) -> None:
        """Settle the costs of an outage; delete expired images, old jobs, reservations, replicas.

        One replica calls this in the background, about once a minute; several do no harm.

        Raises:
            ServingError: the database cannot be used (503).
        """
        self.spending.settle_waiting()
        self.images.purge()
        self.jobs.purge()
        self.spending.purge()
        self.replicas.purge()
        self._database.release_space()

    def expired(self) -> dict[str, tuple[int, int]]:
        """Return what :meth:`purge` deletes: the number and bytes of images and of jobs.

        Raises:
            ServingError: the database cannot be used (503).
        """
        return {"images": self.images.expired(), "jobs": self.jobs.expired()}

    def close(self) -> None:
        """Settle the costs of an outage, and close all connections."""
        self.spending.settle_waiting()
        self._database.close()
