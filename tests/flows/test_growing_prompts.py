"""A file of prompts that grows between two runs of the flow, with DVC and the real stages."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from prefect.testing.utilities import prefect_test_harness

from catimage.commands.input_files import PACKAGE
from catimage.data.prompts.identity import prompt_id
from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import read_keys
from catimage.tracking.registry import RegistrationResult
from catimage.workspace import STAGES, Workspace
from flows import registration, retrain
from tests.forked_catimage import forked_catimage

ROOT = Path(__file__).parents[2]
VOCABULARY = [
    "cat",
    "dog",
    "ring",
    "cube",
    "red",
    "blue",
    "small",
    "glass",
    "river",
    "snow",
    "moon",
]
POOL = {
    "name": "mini",
    "generators": {
        "sd": {
            "pipeline": "StableDiffusionPipeline",
            "weights": str(PACKAGE / "pools" / "tiny" / "sd"),
            "scheduler": "EulerDiscreteScheduler",
            "guidance": 1.0,
            "size": 64,
        }
    },
    "candidates": [{"candidate": f"sd-{n}", "generator": "sd", "steps": n} for n in (1, 2)],
}
PARAMS = {
    "pool": "mini",
    "budget": "90%",
    "sample": {"sources": [{"kind": "file", "path": "prompts.csv"}], "max_similarity": 1.0},
    "generate": {"seeds": [0], "shard_images": 24},
    "label": {"metrics": ["clip_score"]},
    "train": {"estimators": ["ridge"], "folds": 2},
    "evaluate": {"bootstrap": 100, "set_metrics": []},
}


def prompts_of(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [f"{' '.join(rng.sample(VOCABULARY, 4))} number {seed} {i}" for i in range(n)]


@pytest.fixture
def catimage_command() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, forked_catimage(Path(folder)) as command:
        yield command


@pytest.fixture
def project(tmp_path: Path, catimage_command: str) -> Workspace:
    """A git repository with this project's ``dvc.yaml`` and 60 prompts in ``prompts.csv``."""
    pipeline = (ROOT / "dvc.yaml").read_text()
    assert pipeline.count("cmd: PYTHONPATH=src catimage") == 9
    (tmp_path / "dvc.yaml").write_text(
        pipeline.replace("PYTHONPATH=src catimage", catimage_command)
    )
    shutil.copytree(ROOT / ".dvc" / "plots", tmp_path / ".dvc" / "plots")
    for name in (".dvc/config", ".dvc/.gitignore", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "pools").mkdir()
    (tmp_path / "pools" / "mini.yaml").write_text(yaml.safe_dump(POOL))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (tmp_path / "prompts.csv").write_text("\n".join(["prompt", *prompts_of(60, 0), ""]))
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "bento.json").write_text(json.dumps({"tag": "catimage:0123"}))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return Workspace(tmp_path)


def repro(workspace: Workspace) -> list[str]:
    """Run ``dvc repro evaluate``, and return the stages that ran, without ``sources``."""
    command = [sys.executable, "-m", "dvc", "repro", "evaluate"]
    process = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    ran = [line.split("'")[1] for line in process.stdout.splitlines() if "Running stage" in line]
    assert ran[0] == "sources"
    return ran[1:]


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the inode and the content of each shard, by name."""
    return {p.name: (p.stat().st_ino, p.read_bytes()) for p in folder.glob("*.parquet")}


@pytest.mark.system
def test_a_flow_on_a_grown_file_of_prompts_retrains_and_generates_only_the_new_images(
    project: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage package and the registration, which need BentoML and MLflow, are left out."""
    assert repro(project) == list(STAGES[:-1])
    shards = files_of(project.images)
    entries = {entry.shard for entry in read_manifest(project.images)}
    scores = pd.read_parquet(project.scores)
    router, report = project.router / "router.json", project.reports / "metrics.json"
    before = router.read_bytes(), report.read_bytes()
    assert repro(project) == [], "nothing has changed"

    new = prompts_of(6, 1)
    with (project.root / "prompts.csv").open("a") as file:
        file.write("\n".join([*new, ""]))
    monkeypatch.setattr(retrain, "STAGES", STAGES[:-1])
    registered = RegistrationResult("run", "1", True, "registered")
    monkeypatch.setattr(registration, "register_router", lambda *_, hold: registered)
    with prefect_test_harness(server_startup_timeout=180):
        assert "router version 1 (champion)" in retrain.retrain(project.root)

    after = files_of(project.images)
    assert {name: after[name] for name in shards} == shards, "the old shards are unchanged"
    new_entries = [e for e in read_manifest(project.images) if e.shard not in entries]
    keys = pd.concat([read_keys(project.images, entry.shard) for entry in new_entries])
    expected = {(prompt_id(text), f"sd-{n}", 0) for text in new for n in (1, 2)}
    assert set(keys.itertuples(index=False, name=None)) == expected
    assert len(keys) == len(expected) and len(read_manifest(project.images)) == len(after)
    grown = pd.read_parquet(project.scores).merge(scores, on=["prompt_id", "candidate", "seed"])
    assert len(grown) == len(scores) == 120 and (grown["value_x"] == grown["value_y"]).all()
    assert len(pd.read_parquet(project.scores)) == 132
    assert router.read_bytes() != before[0] and report.read_bytes() != before[1]
    assert repro(project) == [], "nothing has changed since the flow"
