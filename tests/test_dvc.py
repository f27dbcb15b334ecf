"""``dvc.yaml`` and ``params.yaml`` compared with the code: DVC watches everything a stage reads."""

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
"""Modules that every stage uses, and the parameters, which DVC watches by their values."""
ENTRY = re.compile(r"(catimage(?:\.\w+)+):\w+")
"""A class that a registry imports by name."""


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return tree


def imported_modules(path: Path) -> set[str]:
    """Modules of the package that a file imports, in functions and by a registry's names too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and (match := ENTRY.fullmatch(str(node.value))):
            names.add(match[1])
    return {name for name in names if name.split(".")[0] == "catimage"}


def files_of(module: str) -> list[Path]:
    path = ROOT / "src" / module.replace(".", "/")
    return [p for p in (path / "__init__.py", path.with_suffix(".py")) if p.exists()]


def import_closure(stage: str) -> set[Path]:
    """Files of the package that a stage imports, directly or indirectly."""
    closure: set[Path] = set()
    pending = [PACKAGE / "stages" / f"{stage}.py"]
    while pending:
        path = pending.pop()
        if path not in closure and path != PACKAGE / "__init__.py":
            closure.add(path)
            pending += [file for module in imported_modules(path) for file in files_of(module)]
    return closure


def code_dependencies(stage: str) -> set[str]:
    """Layers of the package that a stage imports; pools are data of the layer ``pool``."""
    paths = set()
    for path in import_closure(stage):
        parts = path.relative_to(PACKAGE).parts
        if parts[0] == "stages":
            paths |= {f"stages/{parts[1]}"} - {"stages/__init__.py"}
        elif parts[0] not in NOT_WATCHED:
            paths.add(parts[0])
    return {f"src/catimage/{path}" for path in paths | ({"pools"} if "pool" in paths else set())}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "package"])
def test_dvc_watches_exactly_the_layers_that_a_stage_imports(
    stages: dict[str, Any], stage: str
) -> None:
    watched = {path for path in stages[stage]["deps"] if path.startswith("src/")}
    expected = code_dependencies(stage)
    assert len(expected) > 3
    assert watched - {"src/catimage/pools/tiny/clip"} == expected


def test_stage_package_watches_the_whole_package(stages: dict[str, Any]) -> None:
    assert {"src/catimage", "bentos", "pools"} <= set(stages["package"]["deps"])


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_exist_or_are_outputs_of_an_earlier_stage(
    stages: dict[str, Any], stage: str
) -> None:
    earlier = {
        out
        for s in STAGES[: STAGES.index(stage)]
        for kind in ("outs", "metrics")
        for o in stages[s].get(kind, [])
        for out in o
    }
    assert not [d for d in stages[stage]["deps"] if d not in earlier and not (ROOT / d).exists()]


def test_dvc_has_the_eight_stages_and_keeps_their_previous_outputs(stages: dict[str, Any]) -> None:
    assert list(stages) == list(STAGES)
    assert [s["cmd"] for s in stages.values()] == [f"catimage {s}" for s in STAGES]
    outs = [o for s in stages.values() for kind in ("outs", "metrics") for o in s.get(kind, [])]
    assert len(outs) == 13
    assert all(settings == {"persist": True} for o in outs for settings in o.values())


def test_params_yaml_lists_every_parameter_and_dvc_watches_each(stages: dict[str, Any]) -> None:
    written = yaml.safe_load((ROOT / "params.yaml").read_text())
    known = Params().model_dump(by_alias=True, exclude={"imported"})
    assert written.keys() == known.keys()
    sections = [k for k, v in known.items() if isinstance(v, dict)]
    assert {k: list(written[k]) for k in sections} == {k: list(known[k]) for k in sections}
    assert load_params(ROOT / "params.yaml").pool == "tiny"
    watched = {p for s in stages.values() for p in s["params"]}
    assert set(known) <= watched
