"""The code and the library versions that the images of a generator kind depend on.

Shard plans contain them, so that images are generated again if the code of a kind or one of its
libraries has changed. Comments, docstrings and formatting are ignored, as is code that only
computes costs.

A change that does not change images is declared in ``equivalent_code.json``, the only place for
such declarations; see CONTRIBUTING.md. Images that were generated before the change then remain
valid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from catimage.common.code import (
    FactsOf,
    code_digest,
    import_closure,
    library_versions,
    package_versions,
)
from catimage.common.source_facts import source_facts
from catimage.pool.registry import BUILT_IN_KINDS, kind_class

EQUIVALENT_CODE = Path(__file__).with_name("equivalent_code.json")
"""The declarations, in two sections. ``code``: by kind, the digest that replaces another digest.
``versions``: by library, the version that replaces another version.
"""
LIBRARIES = ("diffusers", "torch", "transformers")
"""The libraries that compute images. Their versions are included for the kinds that import them.
"""
COST_MODULES = ("checks", "counting", "facts", "meta_pipeline", "meta_run", "meter", "tokenizer")
"""Modules of the built-in kinds that check settings or compute costs; images do not depend
on them.
"""
_BUILT_IN_PACKAGE = "catimage.pool.generators"


def image_code(kind: str) -> dict[str, str]:
    """Return the digest of the code of a kind, and the versions of the libraries that it imports.

    Args:
        kind: the name of a kind.

    Returns:
        The digest under ``code``, and versions by library. Empty for a kind whose images another
        computer generates (:attr:`~catimage.pool.kind.GeneratorKind.remote`).
    """
    cls = kind_class(kind)
    return {} if cls.remote else dict(_image_code(kind, cls.__module__))


@lru_cache(maxsize=64)
def _image_code(kind: str, module: str) -> Mapping[str, str]:
    declared = json.loads(EQUIVALENT_CODE.read_text(encoding="utf-8"))
    facts = lru_cache(maxsize=None)(source_facts)  # each file is parsed once
    files = image_files(kind, module, facts)
    digest = resolve(code_digest(files, facts)[:32], declared["code"].get(kind, {}))
    versions = {
        name: resolve(version, declared["versions"].get(name, {}))
        for name, version in library_versions(package_versions(files, facts), LIBRARIES).items()
    }
    return {"code": digest, **versions}


def image_files(kind: str, module: str, facts: FactsOf = source_facts) -> tuple[Path, ...]:
    """Return the source files that the images of a kind depend on.

    For a built-in kind, these are the files of its package and of the packages of other kinds that
    it imports, except :data:`COST_MODULES`. For a kind of another package, these are all files of
    that package that the module of the kind imports.

    Args:
        kind: the name of the kind.
        module: the module of the class of the kind.
        facts: returns the facts of a file.
    """
    if kind not in BUILT_IN_KINDS:
        return import_closure(module, within=(module.partition(".")[0],), facts=facts)
    files = import_closure(module, within=(_BUILT_IN_PACKAGE,), facts=facts)
    return tuple(path for path in files if path.stem not in COST_MODULES)


def resolve(value: str, replaced: Mapping[str, str]) -> str:
    """Replace a digest or a version as long as ``replaced`` has a replacement for it.

    Raises:
        ValueError: the replacements form a cycle.
    """
    visited = {value}
    while value in replaced:
        value = replaced[value]
        if value in visited:
            raise ValueError(
                f"{EQUIVALENT_CODE}: the replacements of {value} form a cycle. Remove one of them."
            )
        visited.add(value)
    return value


def code_changes(earlier: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """Describe the differences between two results of :func:`image_code`.

    Returns:
        A text such as ``diffusers 0.38.0 -> 0.39.0``; empty if there is no difference.
    """
    changes = [
        "the code of the generator has changed"
        if name == "code"
        else f"{name} {earlier.get(name, 'unknown')} -> {current.get(name, 'none')}"
        for name in sorted({*earlier, *current})
        if earlier.get(name) != current.get(name)
    ]
    return ", ".join(changes)
