"""Time of ``dvc repro`` if all stages are up to date, with outputs as large as in ``make demo``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks.measure import Row, seconds

ROOT = Path(__file__).parents[1]
SHARDS, SHARD_BYTES = 32, 4_000_000
"""The number and size of image shards, approximately those of 1,400 prompts, 6 candidates and 2
seeds."""
WRITE_OUTPUTS = f"""
import os, pathlib, sys
for name in map(pathlib.Path, sys.argv[1:]):
    folder = not name.suffix
    (name if folder else name.parent).mkdir(parents=True, exist_ok=True)
    shards = {SHARDS} if name.name == "images" else 1
    for path in [name / f"shard-{{i}}.parquet" for i in range(shards)] if folder else [name]:
        path.write_text(os.urandom({SHARD_BYTES // 2} if shards > 1 else 50_000).hex())
"""
"""A script that writes random text to the outputs of a stage."""


def rows() -> list[Row]:
    """Measure one call for all stages, and one call per stage."""
    dvc = [sys.executable, "-m", "dvc"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        stages = _create_project(folder)
        subprocess.run([*dvc, "repro", "-q"], cwd=folder, check=True)

        def repro(*arguments: str) -> None:
            subprocess.run([*dvc, "repro", *arguments], cwd=folder, check=True, capture_output=True)

        one_call = seconds(repro, 3)
        call_per_stage = seconds(lambda: [repro(stage) for stage in stages], 1)
    importing = [sys.executable, "-c", "import dvc.repo"]
    import_time = seconds(lambda: subprocess.run(importing, check=True), 3)
    return [
        Row(
            "`dvc repro`, all stages up to date",
            f"{one_call:.1f} s",
            f"{import_time:.1f} s (importing DVC)",
            f"{one_call / import_time:.1f}x its time",
        ),
        Row(
            "the same, one call per stage as in the flow",
            f"{call_per_stage:.1f} s",
            f"{one_call:.1f} s (one call)",
            f"{call_per_stage / one_call:.1f}x its time",
        ),
    ]


def _create_project(folder: Path) -> list[str]:
    """Create a git repository with the code and ``dvc.yaml`` of this project; return its stages.

    The commands of the stages write random text to their outputs; ``sources`` is not replaced.
    """
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    (folder / "write_outputs.py").write_text(WRITE_OUTPUTS)
    stages = {name: s for name, s in pipeline["stages"].items() if name != "sources"}
    for stage in stages.values():
        outs = [name for kind in ("outs", "metrics") for out in stage.get(kind, []) for name in out]
        stage["cmd"] = f"{sys.executable} write_outputs.py {' '.join(outs)}"
    pipeline["stages"]["sources"]["cmd"] = (
        f"PYTHONPATH=src {sys.executable} -m catimage.cli.app sources"
    )
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    for name in ("src", "bentos", "expectations", "pools", ".dvc/plots"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dvc/config", ".dvc/.gitignore", ".gitignore", ".dvcignore", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return list(stages)
