"""The code that a module depends on: its import closure, a digest of the code, library versions.

A result is out of date if the code that computed it has changed. The import closure of a module is
the set of the source files that it imports, directly or indirectly. The digest of these files
ignores comments, docstrings and formatting, which do not change results. Files are read and parsed,
not imported.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

from catimage.common.source_facts import SourceFacts, module_name, source_facts

DISTRIBUTIONS = {
    "PIL": "pillow",
    "open_clip": "open-clip-torch",
    "pynvml": "nvidia-ml-py",
    "ruamel": "ruamel.yaml",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Names of distributions that differ from the name of the package. Others are looked up slowly."""
NOT_INSTALLED = "not installed"
PUBLIC_API = "catimage"
"""The ``__init__`` of this package has only lazy exports, so closures omit it."""


FactsOf = Callable[[Path], SourceFacts]
"""A function that returns the facts of a file; it may cache them."""


def import_closure(
    *modules: str, within: Sequence[str] = ("catimage",), facts: FactsOf = source_facts
) -> tuple[Path, ...]:
    """Return the files of modules and of all modules that they import, sorted by module.

    Classes that a registry names as ``module:Class`` are followed like imports.

    Args:
        modules: dotted names of modules.
        within: dotted names of packages. Only modules in these packages are followed.
        facts: returns the facts of a file.

    Raises:
        ModuleNotFoundError: one of ``modules`` is not a Python file.
        SyntaxError: a file is not valid Python.
    """
    for name in modules:
        if module_file(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    closure: dict[str, Path] = {}
    locations = {package: _locations(package) for package in {w.partition(".")[0] for w in within}}
    pending, visited = list(modules), set[str]()
    while pending:
        name = pending.pop()
        if name in visited or not _is_within(name, within):
            continue
        visited.add(name)
        pending.append(name.rpartition(".")[0])
        path = _file_in(name, locations[name.partition(".")[0]])
        if path is not None and name != PUBLIC_API:
            closure[name] = path
            found = facts(path)
            pending += (*found.imports, *found.entries)
    return tuple(closure[name] for name in sorted(closure))


def code_digest(paths: Iterable[Path], facts: FactsOf = source_facts) -> str:
    """Return the SHA-256 of the code of files, without comments, docstrings and formatting.

    It depends on the names of the modules, but not on the folder of the package or on the order.

    Raises:
        SyntaxError: a file is not valid Python.
    """
    lines = sorted({f"{module_name(path)} {facts(path).digest}\n" for path in paths})
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def imported_packages(paths: Iterable[Path], facts: FactsOf = source_facts) -> list[str]:
    """Return the names of the packages of other projects that files import, sorted.

    The standard library is not included.
    """
    names: set[str] = set()
    for path in paths:
        own = module_name(path).partition(".")[0]
        imported = {name.partition(".")[0] for name in facts(path).imports}
        names |= imported - {own, ""}
    return sorted(names - sys.stdlib_module_names)


def package_versions(paths: Iterable[Path], facts: FactsOf = source_facts) -> dict[str, str]:
    """Return the installed version of every package of other projects that files import.

    Returns:
        Versions by the name that is imported, such as ``PIL``; :data:`NOT_INSTALLED` for a package
        that is not installed.
    """
    return {name: installed_version(name) for name in imported_packages(paths, facts)}


def library_versions(versions: Mapping[str, str], libraries: Collection[str]) -> dict[str, str]:
    """Return the versions of some libraries, without the build of a version (``+cpu``).

    Args:
        versions: the output of :func:`package_versions`.
        libraries: the names of the libraries.
    """
    return {
        name: version.partition("+")[0] for name, version in versions.items() if name in libraries
    }


def installed_version(package: str) -> str:
    """Return the version of an installed package; :data:`NOT_INSTALLED` if there is none.

    Args:
        package: the name that is imported, such as ``PIL``.
    """
    try:
        return version(DISTRIBUTIONS.get(package, package))
    except PackageNotFoundError:
        pass
    if find_spec(package) is None:
        return NOT_INSTALLED
    distributions = _distributions().get(package, [])
    return " ".join(sorted({f"{name} {version(name)}" for name in distributions})) or NOT_INSTALLED


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    """Return the distributions of every installed package. This reads many files."""
    return {name: list(found) for name, found in packages_distributions().items()}


def module_file(name: str) -> Path | None:
    """Return the file of a module, or None if it is not a Python file.

    Only the location of the top-level package is looked up, so that nothing is imported.
    """
    return _file_in(name, _locations(name.partition(".")[0]))


def _locations(package: str) -> list[Path]:
    """Return the folders of a top-level package, or the file of a module without its suffix."""
    spec = find_spec(package)
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin).with_suffix("")] if spec.origin and spec.has_location else []


def _file_in(name: str, locations: Sequence[Path]) -> Path | None:
    """Return the file of a module whose top-level package is at ``locations``."""
    for location in locations:
        path = location.joinpath(*name.split(".")[1:])
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def _is_within(name: str, packages: Collection[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
