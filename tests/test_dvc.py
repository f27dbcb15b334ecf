"""``dvc.yaml``: its commands, its outputs, and the completeness of its dependencies.

DVC has to run a stage again if anything changes that its result depends on: the tables that it
reads, which ``dvc.yaml`` lists, and the inputs that ``catimage sources`` records for it
(``tests/commands/test_sources.py``). ``tests/flows/test_growing_prompts.py`` runs DVC.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.commands.sources import StageCode
from catimage.commands.stage_parameters import PARAMETERS
from catimage.common.source_facts import SourceFacts, source_facts
from catimage.params import Params, load_params
from catimage.workspace import STAGES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "catimage"
PARAMETERS_OF = {
    "trained_metrics": ("metric", "train.metrics"),
    "gate_share": ("sample.gate_share", "import"),
    "budget_as_cost": ("budget",),
    "check_not_imported": ("import",),
    "imported": ("import",),
    "validation": ("validate",),
}
"""The keys that the properties and methods of ``Params`` read."""
NARROWED = {
    "train": {"label": "label.composites"},
    "calibrate": {"label": "label.composites"},
    "evaluate": {"label": "label.composites"},
}
"""Sections of which a stage reads only one key: the directions of metrics need composites only."""
TABLES = {
    "prompts": "data/prompts.parquet",
    "candidates": "data/candidates.parquet",
    "scores": "data/scores.parquet",
    "images": "data/images",
    "embeddings": "data/embeddings",
    "estimators": "models/estimators",
    "router": "models/router",
}
"""The paths of the properties of ``Workspace``."""


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    """The stages of ``dvc.yaml``, by name."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return tree


def outputs_of(stage: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the outputs and metrics of a stage, by path."""
    listed = [*stage.get("outs", []), *stage.get("metrics", [])]
    return {path: settings for output in listed for path, settings in output.items()}


@cache
def facts_of(path: Path) -> SourceFacts:
    """Return the facts of a Python file, which is parsed once for all tests."""
    return source_facts(path)


def attributes(stage: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield ``("a", "b")`` for each ``name.a.b`` in the code of a stage, ``b`` may be empty."""
    for path in StageCode(facts_of).closure(stage):
        text = path.read_text()
        if f"{name}." not in text:
            continue
        tree = ast.parse(text)
        inner = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                parts = ast.unparse(node).split(".")
                if len(parts) == 3 and parts[0].lstrip("_") == name:
                    yield parts[1], parts[2]
                if len(parts) == 2 and parts[0].lstrip("_") == name and node not in inner:
                    yield parts[1], ""


def test_dvc_has_the_eight_stages_and_sources_and_keeps_previous_outputs(stages: dict[str, Any]):
    assert list(stages) == ["sources", *STAGES]
    commands = [stage["cmd"] for stage in stages.values()]
    assert commands == [f"PYTHONPATH=src catimage {name}" for name in stages]
    outputs = [settings for stage in stages.values() for settings in outputs_of(stage).values()]
    assert outputs == [{"persist": True}] * 16
    assert [name for name, stage in stages.items() if stage.get("always_changed")] == ["sources"]
    assert list(outputs_of(stages["sources"])) == ["data/sources.json", "data/traffic"]


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_depends_on_its_recorded_inputs(stages: dict[str, Any], stage: str):
    keys = [f"{stage}.{key}" for key in ("code", "files", "packages", "parameters")]
    assert stages[stage]["params"] == [{"data/sources.json": keys}]


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_are_outputs_of_earlier_stages(stages: dict[str, Any], stage: str):
    earlier = {path for name in STAGES[: STAGES.index(stage)] for path in outputs_of(stages[name])}
    assert set(stages[stage].get("deps", [])) <= earlier


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_each_stage_depends_on_the_tables_that_its_code_reads(stages: dict[str, Any], stage: str):
    """Stage label reads the candidates of imported images only, which DVC does not generate. The
    stages validate and train read only what the pool file determines without its prices.
    """
    own, listed = outputs_of(stages[stage]), set(stages[stage].get("deps", []))
    read = {TABLES[name] for name, _ in attributes(stage, "workspace") if name in TABLES}
    without_candidates = stage in ("label", "validate", "train")
    expected = read - set(own) - ({"data/candidates.parquet"} if without_candidates else set())
    assert expected == listed - {"reports/validation.json"}


def test_stage_train_depends_on_the_report_of_the_validation(stages: dict[str, Any]):
    users = [name for name in STAGES if "reports/validation.json" in stages[name].get("deps", [])]
    assert users == ["train"]


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_the_recorded_parameters_are_those_that_the_code_of_the_stage_reads(stage: str):
    names = {field.alias or name for name, field in Params.model_fields.items()}
    keys = set()
    for section, key in attributes(stage, "params"):
        for name in PARAMETERS_OF.get(section, (section,)):
            fields = getattr(Params.model_fields.get(section), "annotation", None)
            inner = getattr(fields, "model_fields", {})
            full = f"{name}.{key}" if key in inner else name
            keys |= (
                {NARROWED.get(stage, {}).get(full, full)} if full.split(".")[0] in names else set()
            )
    recorded = set(PARAMETERS[stage])
    covered = {key for key in keys if {key, key.split(".")[0]} & recorded}
    assert keys - covered == set(), "parameters that are read and not recorded"
    unused = {r for r in recorded if not any(k == r or k.startswith(f"{r}.") for k in keys)}
    assert unused == set(), "parameters that are recorded and not read"


def test_every_parameter_is_recorded_for_a_stage():
    written = yaml.safe_load((ROOT / "params.yaml").read_text())
    recorded = {key.split(".")[0] for keys in PARAMETERS.values() for key in keys}
    assert set(written) - recorded <= {"promote", "monitor", "gc"}, "not read by stages"


def test_params_yaml_has_every_parameter():
    written = yaml.safe_load((ROOT / "params.yaml").read_text())
    defaults = Params().model_dump(by_alias=True, exclude={"imported"})
    assert written.keys() == defaults.keys()
    sections = [key for key, value in defaults.items() if isinstance(value, dict)]
    assert {s: list(written[s]) for s in sections} == {s: list(defaults[s]) for s in sections}
    assert load_params(ROOT / "params.yaml").pool == "tiny"


STUB = """\
import json, sys
from pathlib import Path

def main():
    print("code in", __file__, "version 1", flush=True)
    if sys.argv[1] == "sources":
        keys = ("code", "files", "packages", "parameters")
        inputs = {"sample": dict.fromkeys(keys, Path(__file__).read_text())}
        Path("data/traffic").mkdir(parents=True, exist_ok=True)
        Path("data/sources.json").write_text(json.dumps(inputs))
    else:
        Path("data/embeddings").mkdir(parents=True, exist_ok=True)
        Path("data/embeddings/one").write_text("1")
        Path("data/prompts.parquet").write_text("1")
"""
"""A replacement of ``catimage.cli.app`` that prints the file that is running."""


def test_dvc_knows_only_the_stages_of_the_repository(tmp_path: Path):
    """Neither those of the template nor those of the fixtures of tests."""
    from dvc.repo import Repo

    templates = ("src/catimage/templates/dvc.yaml", "tests/fixtures/format_1/workspace/dvc.yaml")
    for name in ("dvc.yaml", ".dvcignore", *templates):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        shutil.copy(ROOT / ".dvcignore", tmp_path)
        found = [(stage.relpath, stage.name) for stage in repo.index.stages]
    paths, names = {Path(path).resolve() for path, _ in found}, {name for _, name in found}
    assert paths == {tmp_path / "dvc.yaml"} and names == {"sources", *STAGES}


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_an_experiment_in_a_copy_of_the_repository_runs_the_code_of_the_copy(tmp_path: Path):
    """As ``dvc exp run --queue``: the console script is that of another, editable installation."""
    for name in ("dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".gitignore", ".dvcignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / ".dvc" / "plots", tmp_path / ".dvc" / "plots")
    app = tmp_path / "src" / "catimage" / "cli" / "app.py"
    app.parent.mkdir(parents=True)
    app.write_text(STUB)
    for folder in (app.parent, app.parents[1]):
        (folder / "__init__.py").write_text("")
    (tmp_path / "params.yaml").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    app.write_text(STUB.replace("version 1", "version 2"))
    process = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "run", "--temp", "sample"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_COMMITTER_NAME": "n",
            "GIT_COMMITTER_EMAIL": "e",
            "GIT_AUTHOR_NAME": "n",
            "GIT_AUTHOR_EMAIL": "e",
        },
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    lines = [line for line in process.stdout.splitlines() if line.startswith("code in")]
    assert len(lines) == 2 and all(line.endswith("version 2") for line in lines)
    assert all(f"{tmp_path}/.dvc/tmp/exps/" in line for line in lines)
    assert not (tmp_path / "data").exists()
    show = [sys.executable, "-m", "dvc", "exp", "show", "--json"]
    shown = subprocess.run(show, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert len(json.loads(shown.stdout)) == 2
