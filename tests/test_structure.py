"""The structure of the code: layers without upward or cyclic imports, short files and functions."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
LAYERS = (  # noqa: SIM905
    "cli commands serving study monitoring tracking stages evaluation validation router estimators"
    " metrics pool routing execution encoders data scenes params workspace common errors"
).split()
"""The layers (packages and modules of ``catimage``), the highest first.

A layer imports only from itself and from lower layers.
"""
FRAMEWORKS = {"prefect", "dvc", "mlflow", "great_expectations", "bentoml"}
ALLOWED = {
    "commands": {"dvc"},
    "tracking": {"mlflow"},
    "validation": {"great_expectations"},
    "serving": {"bentoml"},
    "stages": {"bentoml"},
}
"""The frameworks that a layer may import."""
LONGEST_FILE, LONGEST_STAGE, LONGEST_FUNCTION = 250, 150, 40
"""Maximum numbers of lines of a file, of a module in ``stages/`` and of a function."""
LONGEST_LINE = 100
"""Maximum number of characters of a line; ruff checks the Python files."""


def module_name(path: Path) -> str:
    """Return the dotted name of the module in a file."""
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SRC.rglob("*.py")}
SOURCES = [
    path
    for folder in ("src", "flows", "bentos", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
]


def imported_names(tree: ast.AST, package: str) -> set[str]:
    """Return the dotted names of all imports, including those in functions.

    Args:
        tree: the syntax tree of a module.
        package: the package of the module, to which relative imports refer.
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(filter(None, [*(parents if node.level else ()), node.module or ""]))
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return names


def package_of(module: str, path: Path) -> str:
    """Return the dotted name of the package that contains a module."""
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


IMPORTS = {
    module: imported_names(ast.parse(path.read_text()), package_of(module, path))
    for module, path in MODULES.items()
}
GRAPH = {
    module: {name for name in names if name in MODULES and name not in (module, "catimage")}
    for module, names in IMPORTS.items()
}


def layer(module: str) -> str:
    """Return the layer of a module; empty for ``catimage`` itself and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "catimage" and len(parts) > 1 else ""


def test_every_module_is_in_a_layer() -> None:
    assert len(MODULES) > 150
    assert {layer(module) for module in MODULES} - {"", *LAYERS} == set()


def test_no_module_imports_from_a_higher_layer() -> None:
    rank = {name: i for i, name in enumerate(LAYERS)}
    upward = [
        f"{module} -> {other}"
        for module, others in GRAPH.items()
        for other in others
        if layer(module) and layer(other) and rank[layer(other)] < rank[layer(module)]
    ]
    assert upward == []


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules of one cycle of imports; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_have_no_cycle() -> None:
    assert set(find_cycle({"a": {"b"}, "b": {"a"}})) == {"a", "b"}
    assert find_cycle(GRAPH) == []


def test_no_stage_imports_another_stage() -> None:
    violations = [
        f"{module} -> {other}"
        for module, others in GRAPH.items()
        for other in others
        if layer(module) == layer(other) == "stages" and other != "catimage.stages"
    ]
    assert violations == []


def test_the_package_does_not_import_other_folders_of_the_repository() -> None:
    outside = {"catimage_tiny", "flows", "bentos", "tests", "benchmarks"}
    violations = [
        f"{module} -> {name}"
        for module, names in IMPORTS.items()
        if module.startswith("catimage.")
        for name in names
        if name.split(".")[0] in outside
    ]
    assert violations == []


def test_frameworks_are_imported_only_in_the_allowed_layers() -> None:
    violations = [
        f"{module} -> {name}"
        for module, names in IMPORTS.items()
        for name in names
        if name.split(".")[0] in FRAMEWORKS - ALLOWED.get(layer(module), set())
    ]
    assert violations == []


def test_no_file_exceeds_its_maximum_length() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in SOURCES}
    stages = SRC / "catimage" / "stages"
    assert {
        str(path.relative_to(ROOT)): n
        for path, n in lines.items()
        if n > (LONGEST_STAGE if path.parent == stages else LONGEST_FILE)
    } == {}


@pytest.mark.parametrize("suffix", ["j2", "css", "yaml"])
def test_no_line_of_a_template_style_sheet_or_pool_exceeds_the_maximum_length(suffix: str) -> None:
    paths = list(SRC.rglob(f"*.{suffix}"))
    assert paths
    assert [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > LONGEST_LINE
    ] == []


def test_no_function_exceeds_the_maximum_length() -> None:
    violations = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert violations == []


def test_no_two_public_classes_have_the_same_name() -> None:
    modules_by_name = defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules_by_name[node.name].append(module)
    assert {name: modules for name, modules in modules_by_name.items() if len(modules) > 1} == {}
