"""The code that a module depends on: its import closure, a digest of the code, library versions.

A result is out of date if the code that computed it has changed. The import closure of a module is
the set of the source files that it imports, directly or indirectly. The digest of these files
ignores comments, docstrings and formatting, which do not change results. Files are read and parsed,
not imported.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ENTRY = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+):\w+")
"""The name of a class in a registry, such as ``catimage.pool.kind:Kind``: module and attribute."""
DISTRIBUTIONS = {
    "PIL": "pillow",
    "open_clip": "open-clip-torch",
    "ruamel": "ruamel.yaml",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Names of distributions that differ from the name of the package. Others are looked up slowly."""
NOT_INSTALLED = "not installed"
PUBLIC_API = "catimage"
"""The ``__init__`` of this package has only lazy exports, so closures omit it."""


@dataclass(frozen=True)
class SourceFacts:
    """Properties of one Python file.

    Attributes:
        digest: the SHA-256 of the syntax tree without docstrings.
        imports: the dotted names that the file imports, including those in functions and those in
            registries of classes, without those under ``if TYPE_CHECKING``. The name of an object
            in a module follows the name of the module.
    """

    digest: str
    imports: tuple[str, ...]


FactsOf = Callable[[Path], SourceFacts]
"""A function that returns the facts of a file; it may cache them."""


def source_facts(path: Path) -> SourceFacts:
    """Parse a Python file and return its digest and imports.

    Raises:
        SyntaxError: the file is not valid Python.
    """
    tree = ast.parse(path.read_bytes(), filename=str(path))
    package = module_name(path).rpartition(".")[0]
    digest = hashlib.sha256(_canonical(tree).encode()).hexdigest()
    return SourceFacts(digest, tuple(sorted(set(_imports(tree, package)))))


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
    pending, visited = list(modules), set[str]()
    while pending:
        name = pending.pop()
        if name in visited or not _is_within(name, within):
            continue
        visited.add(name)
        pending.append(name.rpartition(".")[0])
        path = module_file(name)
        if path is not None and name != PUBLIC_API:
            closure[name] = path
            pending += facts(path).imports
    return tuple(closure[name] for name in sorted(closure))


def code_digest(paths: Iterable[Path], facts: FactsOf = source_facts) -> str:
    """Return the SHA-256 of the code of files, without comments, docstrings and formatting.

    It depends on the names of the modules, but not on the folder of the package or on the order.

    Raises:
        SyntaxError: a file is not valid Python.
    """
    lines = sorted({f"{module_name(path)} {facts(path).digest}\n" for path in paths})
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def package_versions(paths: Iterable[Path], facts: FactsOf = source_facts) -> dict[str, str]:
    """Return the installed version of every package of other projects that files import.

    Returns:
        Versions by the name that is imported, such as ``PIL``; :data:`NOT_INSTALLED` for a package
        that is not installed.
    """
    names: set[str] = set()
    for path in paths:
        own = module_name(path).partition(".")[0]
        imported = {name.partition(".")[0] for name in facts(path).imports}
        names |= imported - {own, ""} - sys.stdlib_module_names
    return {name: installed_version(name) for name in sorted(names)}


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


def module_name(path: Path) -> str:
    """Return the dotted name of the module in a file; that of a package ends with ``.__init__``."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.append(folder.name)
        folder = folder.parent
    return ".".join(reversed(parts))


def module_file(name: str) -> Path | None:
    """Return the file of a module, or None if it is not a Python file.

    Only the location of the top-level package is looked up, so that nothing is imported.
    """
    top, *parts = name.split(".")
    spec = find_spec(top)
    if spec is None:
        return None
    if not parts and spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin)
    for location in spec.submodule_search_locations or ():
        path = Path(location, *parts)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def _is_within(name: str, packages: Collection[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    """Yield the dotted names that a syntax tree imports when it runs.

    Args:
        node: the syntax tree.
        package: the package of the module, to which relative imports refer.
    """
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join(filter(None, [*(parents if node.level else ()), node.module or ""]))
        yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
    elif isinstance(node, ast.Call) and _last_name(node.func) == "import_module":
        yield from (a.value for a in node.args[:1] if _is_text(a))
    elif isinstance(node, ast.Constant) and (match := ENTRY.fullmatch(str(node.value))):
        yield match[1]
    for child in _executed_children(node):
        yield from _imports(child, package)


def _executed_children(node: ast.AST) -> Iterable[ast.AST]:
    """Return the child nodes, without the block that only type checkers execute."""
    if isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
        return node.orelse
    return ast.iter_child_nodes(node)


def _last_name(node: ast.expr) -> str:
    """Return ``b`` of the expressions ``b`` and ``a.b``, and an empty string of others."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _canonical(node: Any) -> str:
    """Return a syntax tree as text, without positions, docstrings and empty fields.

    Statements that are only a string are docstrings, those of variables too. Fields that newer
    versions of Python add are empty in code of older versions, so the text does not change.
    """
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None)
        inner = ",".join(f"{name}={_canonical(value)}" for name, value in fields if value != [])
        return f"{type(node).__name__}({inner})"
    if isinstance(node, list):
        kept = (n for n in node if not (isinstance(n, ast.Expr) and _is_text(n.value)))
        return f"[{','.join(_canonical(n) for n in kept)}]"
    return repr(node)
