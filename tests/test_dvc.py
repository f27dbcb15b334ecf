"""Comparison of ``dvc.yaml`` and ``params.yaml`` with the code.

DVC has to run a stage again if anything changes that the stage reads. The dependencies and
parameters in ``dvc.yaml`` must therefore be complete.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.params import Params, load_params
from catimage.workspace import STAGES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "catimage"
NOT_WATCHED = {"__init__.py", "errors.py", "workspace.py", "params"}
"""Modules of the package that ``dvc.yaml`` omits: every stage imports them."""
REGISTRY_ENTRY = re.compile(r"(catimage(?:\.\w+)+):\w+")
"""The name of a class, such as ``catimage.pool.kind:Kind``, that a registry imports."""


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    """The stages of ``dvc.yaml``, by name."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return tree


def imported_modules(path: Path) -> set[str]:
    """Return the modules that a file imports, including those that a registry imports by name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and (
            match := REGISTRY_ENTRY.fullmatch(str(node.value))
        ):
            names.add(match[1])
    return {name for name in names if name.split(".")[0] == "catimage"}


def files_of(module: str) -> list[Path]:
    """Return the file of a module in a list, which is empty for a name that is not a module."""
    path = ROOT / "src" / module.replace(".", "/")
    return [p for p in (path / "__init__.py", path.with_suffix(".py")) if p.exists()]


def import_closure(stage: str) -> set[Path]:
    """Return the files of the package that a stage imports, directly or indirectly."""
    closure: set[Path] = set()
    pending = [PACKAGE / "stages" / f"{stage}.py"]
    while pending:
        path = pending.pop()
        if path not in closure and path != PACKAGE / "__init__.py":
            closure.add(path)
            pending += [file for module in imported_modules(path) for file in files_of(module)]
    return closure


def code_dependencies(stage: str) -> set[str]:
    """Return the folders and files of the package on which a stage depends.

    The folder ``pools`` is included with ``pool``, which reads it.
    """
    paths = set()
    for path in import_closure(stage):
        parts = path.relative_to(PACKAGE).parts
        if parts[0] == "stages":
            paths |= {f"stages/{parts[1]}"} - {"stages/__init__.py"}
        elif parts[0] not in NOT_WATCHED:
            paths.add(parts[0])
    return {f"src/catimage/{path}" for path in paths | ({"pools"} if "pool" in paths else set())}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "package"])
def test_the_code_dependencies_of_a_stage_are_the_modules_that_it_imports(
    stages: dict[str, Any], stage: str
) -> None:
    dependencies = {path for path in stages[stage]["deps"] if path.startswith("src/")}
    expected = code_dependencies(stage)
    assert len(expected) > 3
    assert dependencies - {"src/catimage/pools/tiny/clip"} == expected


def test_the_stage_package_depends_on_the_whole_package(stages: dict[str, Any]) -> None:
    assert {"src/catimage", "bentos", "pools"} <= set(stages["package"]["deps"])


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_exist_or_are_outputs_of_an_earlier_stage(
    stages: dict[str, Any], stage: str
) -> None:
    earlier_outputs = {
        path
        for earlier in STAGES[: STAGES.index(stage)]
        for kind in ("outs", "metrics")
        for output in stages[earlier].get(kind, [])
        for path in output
    }
    dependencies = set(stages[stage]["deps"]) - earlier_outputs
    assert [path for path in dependencies if not (ROOT / path).exists()] == []


def test_dvc_has_the_eight_stages_and_keeps_their_previous_outputs(stages: dict[str, Any]) -> None:
    assert list(stages) == list(STAGES)
    assert [stage["cmd"] for stage in stages.values()] == [f"catimage {name}" for name in STAGES]
    outputs = [
        output
        for stage in stages.values()
        for kind in ("outs", "metrics")
        for output in stage.get(kind, [])
    ]
    assert len(outputs) == 13
    assert all(settings == {"persist": True} for output in outputs for settings in output.values())


def test_params_yaml_and_dvc_yaml_have_every_parameter(stages: dict[str, Any]) -> None:
    written = yaml.safe_load((ROOT / "params.yaml").read_text())
    defaults = Params().model_dump(by_alias=True, exclude={"imported"})
    assert written.keys() == defaults.keys()
    sections = [key for key, value in defaults.items() if isinstance(value, dict)]
    assert {s: list(written[s]) for s in sections} == {s: list(defaults[s]) for s in sections}
    assert load_params(ROOT / "params.yaml").pool == "tiny"
    dvc_parameters = {key for stage in stages.values() for key in stage["params"]}
    assert set(defaults) <= dvc_parameters
