"""Properties of a Python file that are found by parsing it: a digest of its code, and its imports.

The digest ignores comments, docstrings and formatting, which do not change results.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

ENTRY = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+):\w+")
"""The name of a class in a registry, such as ``catimage.pool.kind:Kind``: module and attribute."""


@dataclass(frozen=True)
class SourceFacts:
    """Properties of one Python file.

    Attributes:
        digest: the SHA-256 of the syntax tree without docstrings.
        imports: the dotted names that the file imports, including those in functions, without those
            under ``if TYPE_CHECKING``. Names of objects follow the name of their module.
        entries: the modules that registries of classes name (:data:`ENTRY`).
    """

    digest: str
    imports: tuple[str, ...]
    entries: tuple[str, ...] = ()


def source_facts(path: Path, fields: bool = True) -> SourceFacts:
    """Parse a Python file and return its digest and imports.

    Args:
        path: the file.
        fields: whether the digest covers annotated class attributes, such as the fields of a
            dataclass and their defaults.

    Raises:
        SyntaxError: the file is not valid Python.
    """
    tree = ast.parse(path.read_bytes(), filename=str(path))
    for node in () if fields else ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            node.body = [n for n in node.body if not isinstance(n, ast.AnnAssign)]
    package = module_name(path).rpartition(".")[0]
    digest = hashlib.sha256(_canonical(tree).encode()).hexdigest()
    entries = (ENTRY.fullmatch(str(n.value)) for n in ast.walk(tree) if _is_text(n))
    return SourceFacts(
        digest,
        tuple(sorted(set(_imports(tree, package)))),
        tuple(sorted({entry[1] for entry in entries if entry})),
    )


def module_name(path: Path) -> str:
    """Return the dotted name of the module in a file; that of a package ends with ``.__init__``."""
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.append(folder.name)
        folder = folder.parent
    return ".".join(reversed(parts))


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
        yield from (str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant))
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


def _is_text(node: Any) -> TypeGuard[ast.Constant]:
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
