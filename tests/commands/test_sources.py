"""The recorded inputs of the stages: each kind of change makes exactly the right stages run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.commands import sources
from catimage.commands.file_cache import MISSING
from catimage.commands.input_files import LONGEST_KEY, PACKAGE, record_key
from catimage.commands.sources import StageCode, stage_sources
from catimage.commands.stage_parameters import parameters
from catimage.common.code import code_digest, module_file
from catimage.common.source_facts import SourceFacts, source_facts
from catimage.params import Params, load_params
from catimage.workspace import STAGES, Workspace

ALL = set(STAGES)
USERS_OF_THE_POOL = ALL - {"sample", "calibrate"}
"""The stages that read the pool file."""
POOL = """\
name: mine
generators:
  mini: {pipeline: StableDiffusionPipeline, weights: sd, scheduler: EulerDiscreteScheduler}
candidates:
- {candidate: mini-1, generator: mini, steps: 1}
"""


@cache
def parsed(path: Path, time: int, fields: bool) -> SourceFacts:
    """Return the facts of a file that was changed at ``time``."""
    return source_facts(path, fields)


@pytest.fixture(autouse=True)
def parse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse each Python file once for all tests."""

    def facts(path: Path, fields: bool = True) -> SourceFacts:
        return parsed(path, path.stat().st_mtime_ns, fields)

    monkeypatch.setattr(sources, "source_facts", facts)


@pytest.fixture
def code_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the code of each stage once for all tests that do not change it."""
    monkeypatch.setattr(StageCode, "inputs", _known_code)


_CODE: dict[tuple[object, ...], Any] = {}
_INPUTS = StageCode.inputs


def _known_code(code: StageCode, stage: str) -> Any:
    key = (stage, *sorted(code._extensions.items()))
    if key not in _CODE:
        _CODE[key] = _INPUTS(code, stage)
    return dict(_CODE[key])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace whose parameters name files of every kind."""
    root = tmp_path / "workspace"
    for name, text in {
        "prompts.csv": "prompt\na red moon\n",
        "data/traffic/prompts.parquet": "taken",
        "data/traffic/outcomes.parquet": "scored",
        "clip/open_clip_config.json": "{}",
        "text/modules.json": "[]",
        "pick/model.safetensors": "weights",
        "real/1.png": "image",
        "pools/mine.yaml": POOL,
        "pools/sd/model_index.json": "{}",
        "pools/sd/unet/weights.safetensors": "weights",
        "expectations/great_expectations.yml": "",
        "expectations/suites/generated_prompts.json": "{}",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    feature = {"kind": "embedding", "encoder": {"model": f"sentence-transformers:{root / 'text'}"}}
    tree = {
        "pool": "mine",
        "encoder": {"model": f"local-dir:{root / 'clip'}"},
        "sample": {"sources": [{"kind": "file", "path": "prompts.csv"}, {"kind": "decisions"}]},
        "label": {"weights": {"pick_score": {"weights": str(root / "pick")}}},
        "train": {"estimators": [{"name": "mine", "kind": "ridge", "features": [feature]}]},
        "evaluate": {"reference_images": "real"},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    return Workspace(root)


def sources_of(workspace: Workspace) -> dict[str, Any]:
    """Return the recorded inputs of all stages."""
    return stage_sources(workspace, load_params(workspace.params))


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, set[str]]:
    """Return the keys of the inputs that differ, by stage; unchanged stages are omitted."""
    keys = {
        stage: {k for k in before[stage] if before[stage][k] != after[stage][k]} for stage in ALL
    }
    return {stage: names for stage, names in keys.items() if names}


def replace(path: str, old: str, new: str) -> Callable[[Workspace], None]:
    """Return a function that replaces a text in a file of a workspace."""

    def edit(workspace: Workspace) -> None:
        file = workspace.root / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return edit


def append(path: str, text: str) -> Callable[[Workspace], None]:
    """Return a function that appends a text to a file of a workspace."""

    def edit(workspace: Workspace) -> None:
        with (workspace.root / path).open("a") as file:
            file.write(text)

    return edit


FILE_EDITS = {
    "prompt added to a prompt file": (append("prompts.csv", "a blue cube\n"), {"sample"}),
    "prompts taken from the decision log": (
        append("data/traffic/prompts.parquet", "."),
        {"sample"},
    ),
    "scored decisions": (append("data/traffic/outcomes.parquet", "."), {"evaluate"}),
    "prompt file removed": (lambda w: (w.root / "prompts.csv").unlink(), {"sample"}),
    "text encoder": (
        append("clip/open_clip_config.json", " "),
        {"sample", "label", "train", "evaluate", "package"},
    ),
    "text encoder of a feature": (
        append("text/modules.json", " "),
        {"train", "calibrate", "evaluate", "package"},
    ),
    "file added to the weights of a metric": (
        lambda w: (w.root / "pick" / "config.json").write_text("{}"),
        {"label", "evaluate"},
    ),
    "reference image": (append("real/1.png", "."), {"evaluate"}),
    "pool file": (replace("pools/mine.yaml", "steps: 1", "steps: 2"), USERS_OF_THE_POOL),
    "comment in the pool file": (append("pools/mine.yaml", "# a comment\n"), set()),
    "weights of a generator": (
        append("pools/sd/unet/weights.safetensors", "."),
        {"generate", "package"},
    ),
    "suite of expectations": (
        append("expectations/suites/generated_prompts.json", " "),
        {"validate"},
    ),
    "file that no parameter names": (
        lambda w: (w.root / "other.csv").write_text("prompt\n"),
        set(),
    ),
    "time of a file": (lambda w: os.utime(w.root / "prompts.csv", (1, 1)), set()),
}


@pytest.mark.parametrize("edit", FILE_EDITS)
def test_a_changed_file_makes_the_stages_that_read_it_out_of_date(
    workspace: Workspace, code_once: None, edit: str
):
    before = sources_of(workspace)
    function, expected = FILE_EDITS[edit]
    function(workspace)
    assert changed(before, sources_of(workspace)) == {stage: {"files"} for stage in expected}


@pytest.mark.parametrize("section", ["encoder", "train"])
def test_a_text_encoder_in_the_home_folder_is_an_input(
    workspace: Workspace, code_once: None, section: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(workspace.root))
    tree = yaml.safe_load(workspace.params.read_text())
    encoder = {"model": "sentence-transformers:~/text"}
    tree["encoder"] = encoder if section == "encoder" else {"model": "tiny"}
    feature = {"kind": "embedding", "encoder": encoder} if section == "train" else "tfidf"
    tree["train"]["estimators"][0]["features"] = [feature]
    workspace.params.write_text(yaml.safe_dump(tree))
    before = sources_of(workspace)
    append("text/modules.json", " ")(workspace)
    stages = {"train", "calibrate", "evaluate", "package"}
    if section == "encoder":
        stages = {"sample", "label", "train", "evaluate", "package"}
    assert changed(before, sources_of(workspace)) == {stage: {"files"} for stage in stages}


def test_a_word_of_yaml_1_1_in_the_pool_file_differs_from_a_truth_value(workspace: Workspace):
    replace("pools/mine.yaml", "steps: 1", "note: no")(workspace)
    before = sources_of(workspace)
    replace("pools/mine.yaml", "note: no", "note: false")(workspace)
    assert changed(before, sources_of(workspace)).keys() == USERS_OF_THE_POOL


SETTINGS = {
    "sample.max_similarity=0.5": {"sample", "validate"},
    "encoder.revision=abc": {"sample", "label", "validate", "train", "evaluate", "package"},
    "generate.batch_size=3": {"generate"},
    "generate.device=cpu": {"generate", "package"},
    "generate.seeds=[5]": {"generate", "validate"},
    "cost_unit=seconds": ALL - {"sample", "label"},
    "label.metrics=[sharpness]": {"label", "validate"},
    "label.on_error=skip": {"label", "validate"},
    "label.device=cpu": {"label", "validate", "evaluate"},
    "metric=sharpness": ALL - {"sample", "generate", "label"},
    "validate.complete_labels=false": ALL - {"sample", "generate", "package"},
    "train.seed=3": {"train"},
    "train.metrics=[sharpness]": {"validate", "train"},
    "budget=55%": {"calibrate", "package"},
    "calibrate.mix=false": {"calibrate"},
    "evaluate.bootstrap=300": {"evaluate"},
    "package.name=other": {"package"},
    "evaluate.bootstrap=2000": set(),
    "train.estimators.0.target=levels": set(),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_changed_parameter_makes_the_stages_that_read_it_out_of_date(
    workspace: Workspace, code_once: None, setting: str
):
    """A parameter that is written with its default value changes nothing."""
    before = sources_of(workspace)
    key, _, value = setting.partition("=")
    if key.startswith("train.estimators"):
        tree = yaml.safe_load(workspace.params.read_text())
        tree["train"]["estimators"][0]["target"] = value
        workspace.params.write_text(yaml.safe_dump(tree))
    else:
        load_params(workspace.params, [setting])
    after = sources_of(workspace)
    assert changed(before, after) == {stage: {"parameters"} for stage in SETTINGS[setting]}


def test_comments_and_the_order_of_keys_in_params_yaml_change_nothing(workspace: Workspace):
    before = sources_of(workspace)
    tree = yaml.safe_load(workspace.params.read_text())
    text = yaml.safe_dump(dict(reversed(tree.items())), sort_keys=False)
    workspace.params.write_text(f"# a comment\n{text}")
    assert changed(before, sources_of(workspace)) == {}


def test_the_defaults_of_omitted_parameters_are_recorded():
    defaults = Params()
    assert parameters("evaluate", defaults)["evaluate"]["bootstrap"] == 2000
    knn = parameters("train", defaults)["train"]["estimators"][0]
    assert (knn["name"], knn["target"], knn["settings"]) == ("knn", "levels", {})
    assert parameters("validate", defaults)["generate"] == {"seeds": defaults.generate.seeds}


def test_a_new_default_affects_only_the_stages_that_read_the_parameter(tmp_path: Path):
    """The digest of the code of the parameters omits the fields: their values are recorded."""
    original = (PACKAGE / "params" / "evaluate.py").read_text()
    path = tmp_path / "evaluate.py"
    digests = []
    for old, new in (("2000", "2000"), ("2000", "500"), ("field_validator(", "field_validator(*")):
        assert old in original
        path.write_text(original.replace(old, new))
        digests.append(source_facts(path, fields=False).digest)
    assert digests[0] == digests[1] != digests[2]


CODE = {
    "catimage.errors": ALL,
    "catimage.workspace": ALL,
    "catimage.params.section": ALL,
    "catimage.data.schema": ALL,
    "catimage.data.prompts.sources": {"sample", "package"},
    "catimage.data.shards.plan": {"generate", "label", "validate", "evaluate", "package"},
    "catimage.encoders.open_clip": ALL - {"generate"},
    "catimage.execution.local": {"generate", "label", "package"},
    "catimage.pool.shard_generation": {"generate", "package"},
    "catimage.pool.generators.hosted.generator": ALL - {"sample"},
    "catimage.metrics.labelling": {"label", "package"},
    "catimage.metrics.dreamsim": ALL - {"sample", "generate"},
    "catimage.estimators.linear": {"train", "calibrate", "evaluate", "package"},
    "catimage.routing.policy": {"calibrate", "evaluate", "package"},
    "catimage.router": {"calibrate", "evaluate", "package"},
    "catimage.validation.suites": {"validate", "package"},
    "catimage.evaluation.report": {"evaluate", "package"},
    "catimage.stages.train": {"train", "package"},
    "catimage.commands.score": {"package"},
    "catimage.cli.app": {"package"},
}
"""Modules of all layers, and the stages that execute them. Stage package copies all files."""


@cache
def closure_of(stage: str) -> list[Path]:
    """Return the files that a stage executes."""
    return StageCode(sources.source_facts).closure(stage)


@pytest.mark.parametrize("module", CODE)
def test_changed_code_makes_the_stages_that_execute_it_out_of_date(module: str):
    def changed_facts(path: Path) -> SourceFacts:
        found = sources.source_facts(path)
        if path == module_file(module):
            return SourceFacts("changed", found.imports, found.entries)
        return found

    out_of_date = {
        stage
        for stage in STAGES
        if code_digest(closure_of(stage), sources.source_facts)
        != code_digest(closure_of(stage), changed_facts)
    }
    assert out_of_date == CODE[module]


def run_in_copy(copy: Path, workspace: Workspace) -> dict[str, Any]:
    """Return the inputs that the command records if the package is the copy in a folder."""
    subprocess.run(
        [sys.executable, "-m", "catimage.cli.app", "sources", "--workspace", workspace.root],
        env={**os.environ, "PYTHONPATH": str(copy / "src")},
        check=True,
    )
    document: dict[str, Any] = json.loads((workspace.root / "data" / "sources.json").read_text())
    return document


def test_a_copy_of_the_package_with_other_comments_has_the_same_code(
    workspace: Workspace, tmp_path: Path
):
    """The command records the code that ``PYTHONPATH`` names, in any folder."""
    before = sources_of(workspace)
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, copy / "src" / "catimage", ignore=ignored)
    root = PACKAGE.parents[1]
    shutil.copytree(root / "bentos", copy / "bentos", ignore=ignored)
    for path in copy.rglob("*.py"):
        path.write_text(path.read_text() + "\n# The end of the file.\n")
    assert changed(before, run_in_copy(copy, workspace)) == {}
    sample = copy / "src" / "catimage" / "stages" / "sample.py"
    sample.write_text(sample.read_text().replace("MIN_PROMPTS = 10", "MIN_PROMPTS = 11"))
    (copy / "src" / "catimage" / "evaluation" / "page" / "style.css").write_text("")
    (copy / "src" / "catimage" / "pool" / "equivalent_code.json").write_text("{}")
    expected = {
        "sample": {"code"},
        "generate": {"files"},
        "evaluate": {"files"},
        "package": {"code", "files"},
    }
    assert changed(before, run_in_copy(copy, workspace)) == expected


def test_files_of_the_package_that_are_not_code_are_inputs_of_a_stage():
    """If there is another folder, add a kind of files to ``commands/input_files.py``."""
    files = {p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    others = {p.relative_to(PACKAGE).parts[0] for p in files if p.suffix != ".py"}
    known = {"evaluation", "pool", "pools", "py.typed", "serving", "templates"}
    assert others - known == set()


def test_a_new_version_of_a_package_makes_the_stages_that_import_it_out_of_date(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
):
    before = sources_of(workspace)
    original = sources.installed_version
    monkeypatch.setattr(
        sources, "installed_version", lambda n: "9.9" if n == "jinja2" else original(n)
    )
    expected = {"evaluate": {"packages"}, "package": {"packages"}}
    assert changed(before, sources_of(workspace)) == expected
    assert set(before["generate"]["packages"]) >= {"torch", "diffusers", "transformers"}
    assert before["generate"]["packages"]["torch"] == original("torch")


def test_the_code_of_a_kind_of_another_package_is_an_input(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = tmp_path / "other_package" / "kind.py"
    module.parent.mkdir()
    (module.parent / "__init__.py").write_text("")
    module.write_text("class Kind: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("special", "other_package.kind:Kind", sources.KIND_GROUP)
    monkeypatch.setattr(
        sources, "entry_points", lambda group: [point] if group == sources.KIND_GROUP else []
    )
    replace("pools/mine.yaml", "{pipeline", "{kind: special, pipeline")(workspace)
    before = sources_of(workspace)
    module.write_text("class Kind:\n    size = 3\n")
    after = changed(before, sources_of(workspace))
    assert after == {stage: {"code"} for stage in ALL - {"sample", "package"}}


def test_the_embedded_clip_is_an_input_of_the_stages_that_use_it(workspace: Workspace):
    """Metrics of sets of images use it in stage evaluate, with any text encoder."""
    name = "embedded CLIP"
    recorded = sources_of(workspace)
    assert [stage for stage in STAGES if name in recorded[stage]["files"]] == ["evaluate"]
    workspace.params.write_text("encoder: {model: tiny}\n")
    recorded = sources_of(workspace)
    users = {stage for stage in STAGES if "encoder tiny" in recorded[stage]["files"]}
    assert users == {"sample", "label", "train", "evaluate", "package"}
    digest = recorded["sample"]["files"]["encoder tiny"]
    assert recorded["evaluate"]["files"][name] == digest != MISSING


def test_a_missing_file_and_an_invalid_pool_are_left_to_the_stage_that_reads_them(
    workspace: Workspace,
):
    (workspace.root / "prompts.csv").unlink()
    for folder in ("clip", "real", "data/traffic"):
        shutil.rmtree(workspace.root / folder)
    (workspace.pools / "mine.yaml").write_text("generators: [")
    recorded = sources_of(workspace)
    assert recorded["sample"]["files"] == {
        "sample.sources prompts.csv": MISSING,
        "sample.sources decisions": MISSING,
        record_key(f"encoder {workspace.root / 'clip'}"): MISSING,
    }
    assert recorded["evaluate"]["files"]["evaluate.reference_images real"] == MISSING
    assert recorded["generate"]["files"]["pool mine"] == MISSING


@pytest.mark.parametrize("length", [1, 50, 60, 100, 300])
def test_dvc_can_read_a_lock_file_with_the_key_of_a_long_path(length: int) -> None:
    """DVC folds long keys with spaces, and cannot read them."""
    from dvc.utils.serialize import dumps_yaml, parse_yaml

    keys = [record_key(f"pool {end}{'x' * length}/{end}") for end in "ab"]
    assert len(set(keys)) == 2 and max(map(len, keys)) <= LONGEST_KEY
    lock = {"stages": {"train": {"params": {"data/sources.json": {"f": dict.fromkeys(keys, 1)}}}}}
    assert parse_yaml(dumps_yaml(lock), "dvc.lock") == lock


def test_the_file_is_written_only_if_it_changes(workspace: Workspace):
    path = workspace.root / "data" / "sources.json"
    params = load_params(workspace.params)
    sources.run(workspace, params)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    sources.run(workspace, params)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    assert json.loads(path.read_text()) == sources_of(workspace)


def test_the_command_imports_no_large_library():
    script = (
        "import sys, catimage.cli.stages, catimage.commands.sources;"
        "print(*({'torch', 'pandas', 'pyarrow', 'sklearn', 'diffusers', 'transformers',"
        " 'great_expectations', 'mlflow', 'open_clip', 'matplotlib'} & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == ""
