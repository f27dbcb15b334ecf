"""The Bento that the stage package builds, and its tag."""

from __future__ import annotations

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from catimage import router as router_module
from catimage.common.hashing import file_digest, folder_digest
from catimage.errors import InputError
from catimage.params import load_params
from catimage.params.evaluate import GroupParams, PackageParams
from catimage.pool.loading import load_pool
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
        "catimage_service.py",
        "models/router/router.json",
    ):
        assert (source / name).is_file()
    assert not list(source.rglob("__pycache__"))
    assert not (source / "catimage").exists()


def test_the_bento_installs_the_wheel_of_the_code_and_the_version_of_every_package(
    workspace: Workspace,
) -> None:
    folder = workspace.dist / "bento" / "env" / "python"
    lines = (folder / "requirements.txt").read_text().splitlines()
    wheel, *lock = [folder / lines[0], *lines[1:]]
    assert {f"{name}=={version(name)}".partition("+")[0] for name in ("torch", "skops")} < {*lock}
    assert {"bentoml", "starlette", "scikit-learn", "numpy"} < {n.partition("==")[0] for n in lock}
    assert all(re.fullmatch(r"[a-z0-9-]+==[^ ;+]+", line) for line in lock)
    assert not [line for line in lines if line.startswith("catimage")]
    with ZipFile(wheel) as archive:
        assert archive.read("catimage/router.py") == Path(router_module.__file__).read_bytes()


def test_the_labels_of_the_bento_say_what_it_was_made_of(workspace: Workspace) -> None:
    manifest = yaml.safe_load((workspace.dist / "bento" / "bento.yaml").read_text())
    labels = manifest["labels"]
    assert labels["pool"] == "miniature"
    assert labels["router"] == folder_digest(workspace.router)
    pool = load_pool(load_params(workspace.params).pool)
    assert labels["pool_revision"] == file_digest(pool.file)
    assert "dvc_lock" not in labels  # the workspace has none
    assert [s["name"] for s in manifest["services"]] == ["router", "generators"]
    assert manifest["services"][0]["config"]["http"]["host"] == "127.0.0.1"


def test_groups_are_services_of_the_bento(workspace: Workspace, tmp_path: Path) -> None:
    other = copy_of(workspace, tmp_path)
    params = load_params(other.params)
    groups = {"fast": GroupParams(generators=["mini"], device="cuda")}
    grouped = PackageParams(name="grouped", groups=groups)
    package.run(other, params.model_copy(update={"package": grouped}))
    manifest = yaml.safe_load((other.dist / "bento" / "bento.yaml").read_text())
    assert [s["name"] for s in manifest["services"]] == ["router", "fast"]
    assert manifest["services"][1]["config"]["resources"] == {"gpu": 1}
    module = (other.dist / "bento" / "src" / "catimage_service.py").read_text()
    assert "class FastGroup" in module and '"mini",' in module


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
        p
        for p in (workspace.root / "bentoml" / "bentos" / "catimage-service").iterdir()
        if p.is_dir()
    ]
    assert [f"catimage-service:{p.name}" for p in stored] == [document["tag"]]


def copy_of(workspace: Workspace, folder: Path) -> Workspace:
    """Copy the router and the parameters of a workspace."""
    for name in ("models", "params.yaml"):
        source = workspace.root / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    return Workspace(folder)


def test_a_different_router_has_a_different_tag(workspace: Workspace, tmp_path: Path) -> None:
    other = copy_of(workspace, tmp_path)
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
