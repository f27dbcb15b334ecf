"""Locked requirements: the installed versions of all packages that CATImage needs.

A lock has the exact version of each package in the transitive closure of the requirements, computed
from the metadata of the installed distributions. A router is loaded with the versions with which it
was trained: a skops file needs the scikit-learn that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from catimage.common.wheel import pinned
from catimage.errors import InputError

PROJECT = "catimage"


def locked_requirements(*extras: str) -> list[str]:
    """Return a requirement with the installed version of each package, without CATImage itself.

    Args:
        extras: extras of CATImage that are installed, such as ``serve``.

    Returns:
        Requirements of the form ``NAME==VERSION``, sorted by name.

    Raises:
        InputError: a required package is not installed.
    """
    seen: set[tuple[str, str]] = set()
    waiting = [(PROJECT, extra) for extra in ("", *extras)]
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        for required in _requirements(*item):
            name = canonicalize_name(required.name)
            waiting += [(name, extra) for extra in ("", *required.extras)]
    return sorted(pinned(*({name for name, _ in seen} - {PROJECT})))


def _requirements(name: str, extra: str) -> Iterator[Requirement]:
    """Yield the requirements of an installed package that apply to this machine.

    Args:
        name: name of the package.
        extra: an extra of the package; empty for the requirements without extras.

    Raises:
        InputError: the package is not installed.
    """
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError as error:
        raise InputError(
            f"{name}: not installed, but required. Run 'pip install catimage[serve]' or 'make"
            " setup'."
        ) from error
    for required in map(Requirement, lines):
        if required.marker is None:
            if not extra:
                yield required
        elif required.marker.evaluate({"extra": extra}) and _concerns(required, extra):
            yield required


def _concerns(required: Requirement, extra: str) -> bool:
    """Return whether an extra adds a requirement that applies without it, too."""
    return not extra or not (required.marker and required.marker.evaluate({"extra": ""}))


def extras_of(generator_kinds: Iterable[str], sentence_transformers: bool) -> tuple[str, ...]:
    """Return the extras of CATImage that a service needs.

    Args:
        generator_kinds: kinds of the generators.
        sentence_transformers: whether a text encoder is one of that package.
    """
    hosted = ("hosted",) if "hosted" in {*generator_kinds} else ()
    return ("serve", *hosted, *(("text",) if sentence_transformers else ()))
