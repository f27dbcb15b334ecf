"""The generators of a pool on one device, loaded on first use."""

from __future__ import annotations

from collections.abc import Iterable

from catimage.pool.device_memory import DeviceMemory
from catimage.pool.kind import Generator
from catimage.pool.registry import generator_kinds
from catimage.pool.spec import Pool


class GeneratorCache:
    """Loads the generators of a pool on first use.

    Generators with common parts, such as the same text encoder, share these parts.

    Example::

        cache = GeneratorCache(load_pool("tiny"), "cpu")
        cache.prepare()
        for name in cache.names:
            images = cache.get(name).generate(prompts, candidate, seeds)
            cache.release(name)

    Args:
        pool: the pool.
        device: a device name of torch, or ``auto``.
        names: names of the generators that will be used; by default all of the pool.
        limit: bytes that weights may occupy on the device; see :class:`DeviceMemory`.

    Raises:
        InputError: the device is unavailable.
    """

    def __init__(
        self,
        pool: Pool,
        device: str = "auto",
        names: Iterable[str] | None = None,
        limit: int | None = None,
    ) -> None:
        self.pool = pool
        self.memory = DeviceMemory(device, limit)
        self._kind_by_generator = generator_kinds(pool)
        self._names = list(pool.generators if names is None else names)
        self._loaded: dict[str, Generator] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the generators that have not been released."""
        return tuple(self._names)

    def prepare(self) -> None:
        """Download missing files, and check all generators and candidates before loading.

        Raises:
            InputError: a file is unavailable, or a candidate or the device is not supported.
        """
        for name in self._names:
            self._kind_by_generator[name].prepare(self.pool.candidates_of(name), self.memory.device)

    def get(self, name: str) -> Generator:
        """Return a generator, which is loaded on the first call.

        Raises:
            InputError: the weights, classes or packages of the generator are unavailable.
        """
        if name not in self._loaded:
            self._loaded[name] = self._kind_by_generator[name].load(self.memory)
        return self._loaded[name]

    def release(self, name: str) -> None:
        """Remove a generator from memory, with the parts that no remaining generator uses."""
        self._loaded.pop(name, None)
        self._names.remove(name)
        used = {key for other in self._names for key in self._kind_by_generator[other].part_keys()}
        self.memory.evict(self._kind_by_generator[name].part_keys() - used)
