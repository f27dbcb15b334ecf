"""The Bento that the stage package builds, and its tag."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from catimage import router as router_module
from catimage.common.hashing import folder_digest
from catimage.errors import InputError
from catimage.params import load_params
from catimage.router import Router
from catimage.stages import package
from catimage.workspace import Workspace


@pytest.fixture
def workspace(packaged: Path) -> Workspace:
    return Workspace(packaged)


def test_the_bento_is_a_complete_workspace(workspace: Workspace) -> None:
    source = workspace.dist / "bento" / "src"
    tree = yaml.safe_load((source / "params.yaml").read_text())
    assert tree["pool"] == "miniature"
    for name in (
        "pools/miniature/mini/weights/unet/diffusion_pytorch_model.safetensors",
        "bentos/service.py",
        "models/router/router.json",
    ):
        assert (source / name).is_file()
    assert not list(source.rglob("__pycache__"))
    assert not (source / "catimage").exists()


def test_the_bento_installs_the_wheel_of_the_code_and_the_versions_that_read_its_estimators(
    workspace: Workspace,
) -> None:
    folder = workspace.dist / "bento" / "env" / "python"
    lines = (folder / "requirements.txt").read_text().splitlines()
    wheel = folder / lines[0]
    assert {f"{name}=={version(name)}".partition("+")[0] for name in ("torch", "skops")} < {*lines}
    assert any(line.startswith("bentoml") for line in lines)
    assert not [line for line in lines if line.startswith("catimage")]
    with ZipFile(wheel) as archive:
        assert archive.read("catimage/router.py") == Path(router_module.__file__).read_bytes()


def test_the_router_uses_the_copied_encoder(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = workspace.dist / "bento" / "src"
    prompts = ["plain amber number 1", "crowded jade number 2"]
    expected = Router.load(workspace.router).predict(prompts)
    monkeypatch.chdir(source)
    router = Router.load(Path("models/router"))
    assert router.estimator.named_steps["features"].get_params()["model"] == "local-dir:encoder"
    assert router.predict(prompts) == pytest.approx(expected)


def test_a_bento_with_equal_content_has_the_same_tag_and_is_built_once(
    workspace: Workspace,
) -> None:
    document = json.loads((workspace.dist / "bento.json").read_text())
    before = folder_digest(workspace.dist / "bento")
    package.run(workspace, load_params(workspace.params))
    assert json.loads((workspace.dist / "bento.json").read_text()) == document
    assert folder_digest(workspace.dist / "bento") == before
    stored = [
        p for p in (workspace.root / "bentoml" / "bentos" / "catimage").iterdir() if p.is_dir()
    ]
    assert [f"catimage:{p.name}" for p in stored] == [document["tag"]]


def test_a_different_router_has_a_different_tag(workspace: Workspace, tmp_path: Path) -> None:
    for name in ("models", "params.yaml"):
        source = workspace.root / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    other = Workspace(tmp_path)
    document = json.loads((other.router / "router.json").read_text())
    (other.router / "router.json").write_text(json.dumps(document | {"lambda": 0.5}))
    package.run(other, load_params(other.params))
    assert (
        json.loads((other.dist / "bento.json").read_text())["tag"]
        != json.loads((workspace.dist / "bento.json").read_text())["tag"]
    )


def test_a_pool_without_the_candidates_of_the_router_is_refused(
    workspace: Workspace,
) -> None:
    before = folder_digest(workspace.dist)
    params = load_params(workspace.params).model_copy(update={"pool": "tiny"})
    with pytest.raises(InputError, match="the pool 'tiny' lacks mini-1, mini-2, mini-4"):
        package.run(workspace, params)
    assert folder_digest(workspace.dist) == before


def test_an_invalid_name_is_refused(workspace: Workspace) -> None:
    params = load_params(workspace.params)
    named = params.model_copy(
        update={"package": params.package.model_copy(update={"name": "two words"})}
    )
    with pytest.raises(InputError, match=r"package\.name: invalid name 'two words'"):
        package.run(workspace, named)


def test_a_missing_router_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Run 'catimage calibrate'"):
        package.run(Workspace(tmp_path), load_params(tmp_path / "params.yaml"))
