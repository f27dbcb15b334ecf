"""Base classes of the classes in a service module."""

from __future__ import annotations


class GroupProcess:
    """Base class of the generator services of a service module.

    Attributes:
        generators: names of the generators of the group.
        device: the device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        drain_seconds: seconds that accepted requests have to finish after SIGTERM.
    """

    generators: tuple[str, ...] = ()
    device: str = "auto"
    drain_seconds: float = 15.0


class RouterProcess:
    """Base class of the router service of a service module.

    Its attributes that are dependencies of BentoML are the generator services.

    Attributes:
        drain_seconds: seconds that accepted requests have to finish after SIGTERM.
    """

    drain_seconds: float = 15.0
