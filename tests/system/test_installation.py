"""The wheel in a virtual environment: a workspace, its stages and its flow, without a checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from sysconfig import get_path
from zipfile import ZipFile

import pytest

from catimage.common.wheel import build_wheel

SETTINGS = (
    "pool=small",
    "budget=80%",
    "sample.sources=[{kind: scenes, count: 120, seed: 0}]",
    "sample.max_similarity=1.0",
    "generate.batch_size=64",
    "label.metrics=[clip_score]",
    "train.estimators=[ridge]",
    "train.folds=2",
    "evaluate.bootstrap=100",
    "evaluate.set_metrics=[]",
    "evaluate.trials=0",
)
POOL = """\
name: small
generators:
  tiny: {{kind: diffusers, pipeline: StableDiffusionPipeline, weights: {weights}, size: 64,
    scheduler: EulerDiscreteScheduler, guidance: 3.0}}
costs: explicit
candidates:
- {{candidate: small-1, generator: tiny, steps: 1, cost: 1}}
- {{candidate: small-2, generator: tiny, steps: 2, cost: 2}}
- {{candidate: small-3, generator: tiny, steps: 3, cost: 3}}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables of a virtual environment with the wheel, without the checkout.

    Its other packages are those of the running environment.
    """
    folder = tmp_path_factory.mktemp("installation")
    wheel = os.environ.get("CATIMAGE_WHEEL") or str(build_wheel(folder))
    venv.create(folder / "venv", symlinks=True)
    binaries = folder / "venv" / "bin"
    options = ["--quiet", "--no-index", "--no-deps", wheel]
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install"]
    subprocess.run([*pip, *options], check=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "others.pth").write_text(get_path("purelib") + "\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL", "GIT_"))}
    return kept | {
        "PATH": f"{binaries}{os.pathsep}{kept['PATH']}",
        "BENTOML_HOME": str(folder / "bentoml"),
        "PREFECT_HOME": str(folder / "prefect"),
        "CATIMAGE_HOME": str(folder / "home"),
    }


def run(folder: Path, environment: Mapping[str, str], *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def workspace(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after ``catimage init`` and ``dvc repro``."""
    parent = tmp_path_factory.mktemp("workspaces")
    script = "import catimage; print(catimage.__file__)"
    location = run(parent, environment, "python", "-c", script).strip()
    assert "site-packages" in location
    run(parent, environment, "catimage", "init", "workspace")
    folder = parent / "workspace"
    (folder / "pools").mkdir()
    weights = Path(location).parent / "pools" / "tiny" / "sd"
    (folder / "pools" / "small.yaml").write_text(POOL.format(weights=weights))
    settings = [argument for setting in SETTINGS for argument in ("--set", setting)]
    run(folder, environment, "catimage", "sample", *settings)
    run(folder, environment, "python", "-m", "dvc", "repro")
    return folder


@pytest.mark.skipif("CATIMAGE_WHEEL" not in os.environ, reason="make wheel built no wheel")
def test_the_wheel_of_a_bento_has_the_files_of_the_built_wheel(tmp_path: Path) -> None:
    assembled, built = ZipFile(build_wheel(tmp_path)), ZipFile(os.environ["CATIMAGE_WHEEL"])
    assert sorted(assembled.namelist()) == sorted(built.namelist())
    assert "catimage/flows/retrain.py" in built.namelist()


def test_the_stages_run_outside_the_repository(
    workspace: Path, environment: dict[str, str]
) -> None:
    metrics = json.loads((workspace / "reports" / "metrics.json").read_text())
    assert metrics["n_test"] > 0
    status = run(workspace, environment, "python", "-m", "dvc", "status", "--json")
    assert set(json.loads(status)) <= {"sources"}


def test_the_flow_of_the_package_registers_the_router(
    workspace: Path, environment: dict[str, str]
) -> None:
    output = run(workspace, environment, "python", "-m", "catimage.flows.retrain")
    assert "router version 1 (champion)" in output
    assert (workspace / "mlflow.db").exists()


def outputs(workspace: Path) -> dict[str, bytes]:
    """Return the contents of the images, the scores and the estimators."""
    names = ("data/images", "data/scores.parquet", "models/estimators")
    paths = [path for name in names for path in [workspace / name, *(workspace / name).rglob("*")]]
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


def test_a_price_change_runs_no_stage_that_needs_no_price(
    workspace: Path, environment: dict[str, str]
) -> None:
    run(workspace, environment, "python", "-m", "dvc", "repro")  # the labels of the champion
    before, pool = outputs(workspace), workspace / "pools" / "small.yaml"
    pool.write_text(pool.read_text().replace("cost: 1}", "cost: 5}"))  # now the most expensive one
    output = run(workspace, environment, "python", "-m", "dvc", "repro")
    ran = re.findall("^Running stage '(.*)'", output, re.MULTILINE)
    assert ran == ["sources", "generate", "calibrate", "evaluate", "package"]
    assert outputs(workspace) == before
    metrics = json.loads((workspace / "reports" / "metrics.json").read_text())
    assert [row["candidate"] for row in metrics["candidates"]] == ["small-2", "small-3", "small-1"]


def test_a_candidate_is_removed_without_running_the_first_stages_again(
    workspace: Path, environment: dict[str, str]
) -> None:
    images = {p.name: p.read_bytes() for p in (workspace / "data" / "images").glob("*.parquet")}
    run(workspace, environment, "catimage", "remove-candidate", "small-2")
    kept = {p.name: p.read_bytes() for p in (workspace / "data" / "images").glob("*.parquet")}
    assert kept.items() < images.items()
    status = run(workspace, environment, "python", "-m", "dvc", "status", "--json")
    assert set(json.loads(status)) <= {"sources", "evaluate", "package"}
    run(workspace, environment, "python", "-m", "dvc", "repro")
    metrics = json.loads((workspace / "reports" / "metrics.json").read_text())
    assert [row["candidate"] for row in metrics["candidates"]] == ["small-3", "small-1"]
