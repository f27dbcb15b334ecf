"""``dvc.yaml`` and ``params.yaml`` against the code: what a stage reads is what DVC watches."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.params import Params, load_params
from catimage.workspace import STAGES

ROOT = Path(__file__).parents[1]
PLUMBING = {"__init__.py", "errors.py", "workspace.py"}
"""What every stage uses and whose change makes nothing out of date by itself."""


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return tree


def used_by(stage: str) -> set[Path]:
    """The package's files that a stage imports, directly or not, wherever the import stands."""
    seen: set[Path] = set()
    left = [ROOT / "src" / "catimage" / "stages" / f"{stage}.py"]
    while left:
        path = left.pop()
        if path not in seen:
            seen.add(path)
            left += [p for m in imports(path) for p in files_of(m)]
    return seen


def imports(path: Path) -> set[str]:
    nodes = [
        n
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.ImportFrom) and n.module
    ]
    return {
        name
        for n in nodes
        for name in (n.module, *(f"{n.module}.{a.name}" for a in n.names))
        if name.startswith("catimage")
    }


def files_of(module: str) -> list[Path]:
    path = ROOT / "src" / module.replace(".", "/")
    return [p for p in (path / "__init__.py", path.with_suffix(".py")) if p.exists()]


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_watches_the_code_that_a_stage_uses(stages: dict[str, Any], stage: str) -> None:
    watched = [ROOT / d for d in stages[stage]["deps"]]
    used = {
        p
        for p in used_by(stage)
        if p.relative_to(ROOT / "src" / "catimage").as_posix() not in PLUMBING
        and p.parent.name != "params"
    }
    assert len(used) > 1
    assert not {
        p.relative_to(ROOT).as_posix()
        for p in used
        if not any(p.is_relative_to(w) for w in watched)
    }


@pytest.mark.parametrize("stage", STAGES)
def test_what_dvc_watches_is_there_or_made_by_an_earlier_stage(
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


def test_the_stages_are_the_eight_and_keep_their_last_good_output(stages: dict[str, Any]) -> None:
    assert list(stages) == list(STAGES) and [s["cmd"] for s in stages.values()] == [
        f"catimage {s}" for s in STAGES
    ]
    outs = [o for s in stages.values() for kind in ("outs", "metrics") for o in s.get(kind, [])]
    assert len(outs) == 13 and all(
        settings == {"persist": True} for o in outs for settings in o.values()
    )


def test_params_yaml_lists_every_parameter_and_each_is_watched(stages: dict[str, Any]) -> None:
    written = yaml.safe_load((ROOT / "params.yaml").read_text())
    known = Params().model_dump(by_alias=True, exclude={"imported"})
    assert written.keys() == known.keys()
    sections = [k for k, v in known.items() if isinstance(v, dict)]
    assert {k: list(written[k]) for k in sections} == {k: list(known[k]) for k in sections}
    assert load_params(ROOT / "params.yaml").pool == "tiny"
    watched = {p for s in stages.values() for p in s["params"]}
    assert set(known) <= watched
