"""``dvc repro`` with nothing to do: the eight stages of ``dvc.yaml`` over outputs of the demo's
size.
"""

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
"""About what 1,400 prompts, 6 candidates and 2 seeds come to."""
FILL = f"""
import os, pathlib, sys
for name in map(pathlib.Path, sys.argv[1:]):
    folder = not name.suffix
    (name if folder else name.parent).mkdir(parents=True, exist_ok=True)
    shards = {SHARDS} if name.name == "images" else 1
    for path in [name / f"shard-{{i}}.parquet" for i in range(shards)] if folder else [name]:
        path.write_text(os.urandom({SHARD_BYTES // 2} if shards > 1 else 50_000).hex())
"""


def rows() -> list[Row]:
    dvc = [sys.executable, "-m", "dvc"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        stages = _project(folder)
        subprocess.run([*dvc, "repro", "-q"], cwd=folder, check=True)
        ours = seconds(
            lambda: subprocess.run([*dvc, "repro"], cwd=folder, check=True, capture_output=True), 3
        )
        flow = seconds(
            lambda: [
                subprocess.run([*dvc, "repro", s], cwd=folder, check=True, capture_output=True)
                for s in stages
            ],
            1,
        )
    bare = seconds(lambda: subprocess.run([sys.executable, "-c", "import dvc.repo"], check=True), 3)
    return [
        Row(
            "`dvc repro`, nothing to do",
            f"{ours:.1f} s",
            f"{bare:.1f} s (importing DVC)",
            f"{ours / bare:.1f}x its time",
        ),
        Row(
            "the same a stage at a time, as the flow does",
            f"{flow:.1f} s",
            f"{ours:.1f} s (at once)",
            f"{flow / ours:.1f}x its time",
        ),
    ]


def _project(folder: Path) -> list[str]:
    """A git repository with this project's code and pipeline, whose stages write random text;
    returns their names.
    """
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    (folder / "fill.py").write_text(FILL)
    for stage in pipeline["stages"].values():
        outs = [name for kind in ("outs", "metrics") for out in stage.get(kind, []) for name in out]
        stage["cmd"] = f"{sys.executable} fill.py {' '.join(outs)}"
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    for name in ("src", "bentos", "expectations", "pools", ".dvc/plots"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dvc/config", ".dvc/.gitignore", ".gitignore", ".dvcignore", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return list(pipeline["stages"])
