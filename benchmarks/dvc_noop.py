"""Time of ``dvc repro`` if all stages are up to date, with outputs as large as in ``make demo``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import Row, seconds
from benchmarks.project import copy_project
from catimage.workspace import STAGES

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
    """Measure one call for all stages, the check of the flow, and one call per stage."""
    dvc = [sys.executable, "-m", "dvc"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "write_outputs.py").write_text(WRITE_OUTPUTS)
        copy_project(folder, _command)
        subprocess.run([*dvc, "repro", "-q"], cwd=folder, check=True)

        def run(*arguments: str) -> object:
            command = [sys.executable, *arguments]
            return subprocess.run(command, cwd=folder, check=True, capture_output=True)

        one_call = seconds(lambda: run("-m", "dvc", "repro"), 3)
        check = seconds(lambda: run("-P", "flows/dvc_status.py", *STAGES), 3)
        call_per_stage = seconds(lambda: [run("-m", "dvc", "repro", stage) for stage in STAGES], 1)
        import_time = seconds(lambda: run("-c", "import dvc.repo"), 3)
    return [
        Row(
            "`dvc repro`, all stages up to date",
            f"{one_call:.1f} s",
            f"{import_time:.1f} s (importing DVC)",
            f"{one_call / import_time:.1f}x its time",
        ),
        Row(
            "check of all stages by the flow",
            f"{check:.1f} s",
            f"{call_per_stage:.1f} s (one `dvc repro` per stage)",
            f"{check / call_per_stage:.2f}x its time",
        ),
    ]


def _command(name: str, stage: dict[str, Any]) -> str:
    """Return a command that writes random text to the outputs; ``sources`` is not replaced."""
    if name == "sources":
        return f"PYTHONPATH=src {sys.executable} -m catimage.cli.app sources"
    outs = [out for kind in ("outs", "metrics") for entry in stage.get(kind, []) for out in entry]
    return f"{sys.executable} write_outputs.py {' '.join(outs)}"
