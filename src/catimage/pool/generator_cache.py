"""The generators of a pool on one device, each opened when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterable

from catimage.pool.device_memory import Workshop
from catimage.pool.pool import Pool
from catimage.pool.spec import Generator


class OpenPool:
    """Opens generators of ``pool`` on demand; those that share parts load them once.

    ``names`` are the generators that will be asked for, all by default.

    Raises:
        InputError: there is no such device.
    """

    def __init__(
        self,
        pool: Pool,
        device: str = "auto",
        names: Iterable[str] | None = None,
        limit: int | None = None,
    ) -> None:
        self.pool = pool
        self.workshop = Workshop(device, limit)
        self._wanted = list(pool.generators if names is None else names)
        self._opened: dict[str, Generator] = {}

    @property
    def wanted(self) -> tuple[str, ...]:
        """The generators that are not closed yet."""
        return tuple(self._wanted)

    def prepare(self) -> None:
        """Fetches and checks all that can be known of every generator and candidate before a long
        run, without loading any.

        Raises:
            InputError: one of them cannot work.
        """
        for name in self._wanted:
            self.pool.generators[name].prepare(
                self.pool.folder, self.pool.candidates_of(name), self.workshop.device
            )

    def generator(self, name: str) -> Generator:
        """The opened generator.

        Raises:
            InputError: its weights or classes are not to be had.
        """
        if name not in self._opened:
            self._opened[name] = self.pool.generators[name].open_in(self.workshop, self.pool.folder)
        return self._opened[name]

    def close(self, name: str) -> None:
        """This generator is not needed any more; of its parts, those that another one will use stay
        loaded.
        """
        self._opened.pop(name, None)
        self._wanted.remove(name)
        specs, folder = self.pool.generators, self.pool.folder
        wanted = {key for other in self._wanted for key in specs[other].part_keys(folder)}
        self.workshop.drop(specs[name].part_keys(folder) - wanted)
