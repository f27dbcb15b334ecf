"""The vocabulary of the project: names and words that plain English has replaced do not return."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "flows", "bentos", "benchmarks", "experiments", "tests")
SOURCES = [
    path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)
]
TEXTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("*.yaml"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "pools").glob("*.md"),
    *(ROOT / "benchmarks").glob("*.md"),
    *(ROOT / "experiments").glob("*.yaml"),
    *(ROOT / "src" / "catimage" / "pools").glob("*.yaml"),
    *(ROOT / "src").rglob("*.j2"),
]
NAMES = frozenset(
    """
    mend mended honest holes said told asks asked says rehearsal rehearse looking dear dearest
    workshop bring drop rest opened remembered making made maker inverted joined ragged tower
    words plateau_words families lookup selected trained judging learning programme mixing
    guarantee kinds choices whole profiling adding extending comparing rate batch hidden trees
    leaves penalty most_words nothing none
    """.split()  # noqa: SIM905
)
"""Identifiers and file names that have been replaced; compared in lower case, without underscores
at the ends."""
PHRASES = re.compile(
    r"\b(mend(s|ed|ing)?|honest(ly)?|(chosen )?beforehand|not to be had|at hand|label holes"
    r"|with holes|rehears\w+|dear(er|est)?|held by|holds? against|held against|workshops?"
    r"|what (it|that) says|that which|is told|are told|boasts?)\b",
    re.IGNORECASE,
)
SETTINGS = NAMES - {"selected"}
"""Keys of YAML files; ``selected`` is a key of metrics.json."""


def defined_names(path: Path) -> Iterator[tuple[str, int]]:
    """Names that a file defines: functions, classes, arguments, variables and attributes."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno


def keys_of(tree: object) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield str(key)
            yield from keys_of(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from keys_of(value)


def prose(path: Path) -> str:
    """The comments and strings of a Python file, or the whole of another file."""
    if path.suffix != ".py":
        return path.read_text()
    wanted = {tokenize.STRING, tokenize.COMMENT}
    with tokenize.open(path) as file:
        return "\n".join(
            t.string for t in tokenize.generate_tokens(file.readline) if t.type in wanted
        )


def test_no_replaced_name_is_defined() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in SOURCES
        for name, line in defined_names(path)
        if name.strip("_").lower() in NAMES
    ]
    assert found == []


def test_no_file_or_folder_has_a_replaced_name() -> None:
    files = [
        p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if "__pycache__" not in p.parts
    ]
    assert len(files) > 300
    assert [str(p.relative_to(ROOT)) for p in files if p.stem.removeprefix("test_") in NAMES] == []


@pytest.mark.parametrize("path", [p for p in TEXTS if p.suffix == ".yaml"], ids=lambda p: p.name)
def test_no_setting_has_a_replaced_name(path: Path) -> None:
    keys = set(keys_of(yaml.safe_load(path.read_text())))
    assert keys and keys & SETTINGS == set()


def test_no_replaced_phrase_is_written() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in [*SOURCES, *TEXTS]
        for match in PHRASES.finditer(prose(path))
    ]
    assert found == []
