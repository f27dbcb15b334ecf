"""``catimage init``, and the files of a new workspace, which those of the repository are like."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from catimage.commands import init as module
from catimage.commands.init import TEMPLATES, init
from catimage.commands.recovery import recover
from catimage.common.workspace_format import WORKSPACE_FORMAT, workspace_format
from catimage.errors import InputError
from catimage.params import Params, load_params
from catimage.workspace import STAGES, Workspace

ROOT = Path(__file__).parents[2]
CHECKOUT = """#
# PYTHONPATH=src makes the commands run the code of this folder, not that of another folder whose
# installation is editable: a queued experiment of DVC runs in a copy of the repository.
"""
"""The part of ``dvc.yaml`` that only the repository has."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init") / "new" / "workspace"
    assert init(folder) == []
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def test_a_new_workspace_is_a_repository_of_git_and_dvc(workspace: Path) -> None:
    from dvc.repo import Repo

    assert Path(git(workspace, "rev-parse", "--show-toplevel").strip()) == workspace
    with Repo(str(workspace)) as repository:
        assert [stage.name for stage in repository.index.stages] == ["sources", *STAGES]
        assert {path.name for path in Path(repository.plots.templates_dir).iterdir()} >= {
            f"{plot['template']}.json"
            for plots in yaml.safe_load((workspace / "dvc.yaml").read_text())["plots"]
            for plot in plots.values()
        }
        assert repository.config["core"]["analytics"] is False
    files = git(workspace, "ls-files", "--others", "--cached", "--exclude-standard").split()
    assert {name for name in files if not name.startswith(".dvc/")} == {
        *(".dvcignore", ".gitignore", "catimage.json", "dvc.yaml", "params.yaml", "prefect.yaml")
    }
    assert workspace_format(workspace) == WORKSPACE_FORMAT
    assert not [path for path in workspace.parent.iterdir() if path != workspace]


def test_outputs_and_local_state_are_ignored_by_git(workspace: Path) -> None:
    stages = yaml.safe_load((workspace / "dvc.yaml").read_text())["stages"].values()
    paths = [path for stage in stages for output in stage.get("outs", []) for path in output]
    for path in (*paths, "mlflow.db", "mlruns/0", ".catimage/digests.json"):
        assert git(workspace, "check-ignore", path).strip() == path


def test_the_parameters_are_the_defaults_of_the_embedded_pool(workspace: Path) -> None:
    params = load_params(workspace / "params.yaml")
    assert params.pool == "tiny" and params == load_params(TEMPLATES / "params.yaml")


def test_the_flows_of_a_workspace_are_those_of_the_package(workspace: Path) -> None:
    from prefect.flows import Flow
    from prefect.utilities.importtools import import_object

    deployments = yaml.safe_load((workspace / "prefect.yaml").read_text())["deployments"]
    assert deployments
    for deployment in deployments:
        assert deployment["entrypoint"].startswith("catimage.flows.")
        assert isinstance(import_object(deployment["entrypoint"]), Flow)


def test_an_empty_folder_in_a_repository_becomes_a_workspace(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    folder = tmp_path / "workspace"
    folder.mkdir()
    number = folder.stat().st_ino
    assert init(folder) == []
    assert folder.stat().st_ino == number, "the folder may be the current one of a shell"
    assert not (folder / ".git").exists() and (folder / ".dvc" / "config").exists()
    assert not list(folder.glob(".workspace*"))


def test_only_the_files_are_written_on_request(tmp_path: Path) -> None:
    assert init(tmp_path / "a", files_only=True) == ["git init", "dvc init"]
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {*module.FILES.values(), "catimage.json"}
    assert "plots" not in yaml.safe_load((tmp_path / "a" / "dvc.yaml").read_text())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_folder_with_files_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
        (path / "mine").write_text("1")
    else:
        path.write_text("1")
    message = {"file": "a file has this name. Choose", "folder": "is not empty. Choose"}[kind]
    with pytest.raises(InputError, match=message):
        init(path)
    assert [p.name for p in tmp_path.rglob("*")] == (["a", "mine"] if kind == "folder" else ["a"])


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_is_left_if_a_command_fails(
    tmp_path: Path, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "workspace"
    if exists:
        folder.mkdir()

    def fail(*arguments: Any, **options: Any) -> None:
        raise InputError("dvc init: failed (no reason). Correct the cause.")

    monkeypatch.setattr(module, "_init_dvc", fail)
    with pytest.raises(InputError, match="no reason"):
        init(folder)
    assert [path for path in tmp_path.rglob("*") if path != folder] == []
    assert folder.exists() == exists


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": WORKSPACE_FORMAT + 1}, r"a newer version of CATImage wrote this workspace"),
        ({"format": "2"}, "'format' is not a version of the format. Restore the file from git, or"),
        ({}, "the file is damaged. Restore the file from git, or remove it and run 'catimage upgr"),
        ([], "the file is damaged. Restore the file from git, or remove it and run 'catimage upgr"),
    ],
)
def test_a_workspace_of_a_newer_version_or_a_damaged_file_is_refused(
    tmp_path: Path, content: object, message: str
) -> None:
    (tmp_path / "catimage.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        recover(Workspace(tmp_path))


def test_a_workspace_without_a_format_has_the_first_one(tmp_path: Path) -> None:
    recover(Workspace(tmp_path))
    assert workspace_format(tmp_path) == 1


def test_dvc_yaml_of_the_repository_is_the_template_with_the_code_of_the_folder() -> None:
    expected = (TEMPLATES / "dvc.yaml").read_text().replace("cmd: ", "cmd: PYTHONPATH=src ")
    actual = (ROOT / "dvc.yaml").read_text()
    assert CHECKOUT in actual
    assert actual.replace(CHECKOUT, "") == expected, "change src/catimage/templates/dvc.yaml too"
    for path in (TEMPLATES / "plots").iterdir():
        assert (ROOT / ".dvc" / "plots" / path.name).read_bytes() == path.read_bytes()


def test_prefect_yaml_of_the_repository_is_the_template_with_its_own_flows() -> None:
    template = (TEMPLATES / "prefect.yaml").read_text()
    expected = template.replace("catimage.flows.", "flows.")
    message = "change src/catimage/templates/prefect.yaml too"
    assert (ROOT / "prefect.yaml").read_text() == expected, message


def test_flows_import_each_other_relatively() -> None:
    """In the wheel, their package is ``catimage.flows``."""
    absolute = [
        f"{path.name}:{node.lineno}"
        for path in (ROOT / "flows").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and not node.level
        and (node.module or "").partition(".")[0] == "flows"
    ]
    assert absolute == [], "write: from .stages import ..."
    assert (ROOT / "src" / "catimage" / "flows").samefile(ROOT / "flows")


def test_params_yaml_of_the_repository_has_the_comments_and_keys_of_the_template() -> None:
    written, template = (
        re.findall("#.*", path.read_text())
        for path in (ROOT / "params.yaml", TEMPLATES / "params.yaml")
    )
    assert written == template, "change src/catimage/templates/params.yaml too"
    tree = yaml.safe_load((TEMPLATES / "params.yaml").read_text())
    assert tree.keys() == Params().model_dump(by_alias=True, exclude={"imported"}).keys()
