"""Registry of generator kinds: the built-in kinds, and the kinds of other installed packages.

A kind is a type of generator. A built-in kind is a package in :mod:`catimage.pool.generators`
and one line in :data:`BUILT_IN_KINDS`. Another package adds a kind with an entry point of the group
``catimage.generators``; docs/pools.md has an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from catimage.errors import InputError, nearest
from catimage.pool.kind import GeneratorKind
from catimage.pool.spec import GeneratorSpec, Pool

BUILT_IN_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "diffusers": "catimage.pool.generators.diffusion.kind:DiffusersKind",
        "distrifusion": "catimage.pool.generators.distrifusion.kind:DistrifusionKind",
        "hosted": "catimage.pool.generators.hosted.kind:HostedKind",
        "infinity": "catimage.pool.generators.infinity.kind:InfinityKind",
        "next-scale": "catimage.pool.generators.next_scale.kind:NextScaleKind",
    }
)
"""Module and class of each built-in kind. Modules are imported when a pool uses the kind."""

DEFAULT_KIND = "diffusers"
"""The kind of a generator whose entry in the pool file has no key ``kind``."""

ENTRY_POINT_GROUP = "catimage.generators"


def kind_names() -> list[str]:
    """Return the names of the built-in kinds, then those of installed packages."""
    return list(dict.fromkeys([*BUILT_IN_KINDS, *_installed_kinds()]))


def kind_class(name: str) -> type[GeneratorKind[Any]]:
    """Return the class of a kind.

    Raises:
        KeyError: no kind has this name.
        InputError: the class of an installed package cannot be imported or is invalid.
    """
    if name in BUILT_IN_KINDS:
        module, attribute = BUILT_IN_KINDS[name].split(":")
        built_in: type[GeneratorKind[Any]] = getattr(import_module(module), attribute)
        return built_in
    return _load_entry_point(_installed_kinds()[name])


def kind_of(spec: GeneratorSpec, folder: Path) -> GeneratorKind[Any]:
    """Return an instance of the generator's kind.

    Args:
        spec: the generator's entry in the pool file.
        folder: the folder of the pool file.
    """
    return kind_class(spec.kind)(spec, folder)


def generator_kinds(pool: Pool) -> dict[str, GeneratorKind[Any]]:
    """Return an instance of the kind of every generator of a pool, by name of the generator."""
    return {name: kind_of(spec, pool.folder) for name, spec in pool.generators.items()}


def takes_negative_prompt(pool: Pool, candidate: str) -> bool:
    """Return whether the images of a candidate can be guided away from the text of a request.

    Args:
        pool: the pool.
        candidate: name of a candidate.
    """
    row = pool.candidate(candidate)
    kind = kind_of(pool.generators[row.generator], pool.folder)
    return kind.with_negative_prompt(row, "") is not None


def candidate_definitions(pool: Pool) -> dict[str, dict[str, Any]]:
    """Return the definition of each candidate's images by name of the candidate.

    Shard plans contain the definitions; see :meth:`catimage.pool.spec.GeneratorSpec.definition`.

    Raises:
        InputError: the weights of a generator are not found.
    """
    generators = {c.generator for c in pool.candidates}
    identities = {
        name: kind.identity() for name, kind in generator_kinds(pool).items() if name in generators
    }
    return {
        c.candidate: pool.generators[c.generator].definition(c, identities[c.generator])
        for c in pool.candidates
    }


def _installed_kinds() -> dict[str, EntryPoint]:
    """Return the entry points of the kinds of installed packages, by name of the kind."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _load_entry_point(point: EntryPoint) -> type[GeneratorKind[Any]]:
    """Import the class of an entry point, and check that it is a complete kind."""
    where = f"generator kind {point.name!r} (entry point {point.value})"
    try:
        kind = point.load()
    except Exception as error:  # an import can raise any exception
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        raise InputError(f"{where}: cannot be imported ({reason}). Correct the package.") from error
    if not (isinstance(kind, type) and issubclass(kind, GeneratorKind)):
        raise InputError(
            f"{where}: is not a subclass of catimage.pool.kind.GeneratorKind. Derive it from that"
            " class."
        )
    if abstract := sorted(kind.__abstractmethods__):
        raise InputError(f"{where}: does not implement {abstract[0]!r}. Add the method.")
    schema = getattr(kind, "schema", None)
    if not (isinstance(schema, type) and issubclass(schema, GeneratorSpec)):
        raise InputError(
            f"{where}: its 'schema' is not a subclass of catimage.pool.spec.GeneratorSpec. Set it"
            " to such a subclass."
        )
    return kind


def unknown_kind_message(name: str) -> str:
    """Return the problem and the fix for an error about an unknown kind."""
    names = kind_names()
    return f"no kind is called {name!r}{nearest(name, names)}. The kinds are {', '.join(names)}."
