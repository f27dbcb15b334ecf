"""Time of the stages after an intake of 5% new prompts, compared with a run of all stages.

The workspace is a finished ``make demo``, in the folder ``CATIMAGE_DEMO`` (default: this
repository), which is copied. All images and scores of the copy are made again, one command per
stage as in ``dvc repro``. Then a decision log is written, ``catimage intake`` takes new prompts
from it, 5% of those of the workspace, and the stages run again. The table has the wall-clock time
of each command.
"""

from __future__ import annotations

import math
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.measure import Row
from catimage.data.decisions import write_decisions
from catimage.data.prompts.identity import prompt_id
from catimage.data.schema import DECISIONS
from catimage.scenes.grammar import sample_scene
from catimage.workspace import STAGES, Workspace

ROOT = Path(__file__).parents[1]
SHARE, TARGET = 0.05, 0.1
"""Share of new prompts, and target of the time of generate and label."""
LOGGED = 20
"""Number of logged prompts per prompt that is taken."""
SEED = 12345
"""Seed of the new captions, which differs from those of ``sample.sources``."""


@dataclass(frozen=True)
class _Time:
    """Wall-clock time and processor time in seconds; other load changes the second one less."""

    wall: float
    cpu: float

    def __add__(self, other: _Time) -> _Time:
        return _Time(self.wall + other.wall, self.cpu + other.cpu)

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.cpu:.1f} s CPU)"


def rows() -> list[Row]:
    """Return a row per stage, and one for generate plus label."""
    demo = Workspace(Path(os.environ.get("CATIMAGE_DEMO", ROOT)))
    if not demo.scores.exists():
        return [Row("increment", f"{demo.root}: no scores, skipped. Run make demo.")]
    with TemporaryDirectory() as name:
        workspace = _copy(demo, Path(name))
        full = {stage: _time(workspace, stage) for stage in STAGES[:-1]}
        before = pd.read_parquet(workspace.prompts)
        _write_log(workspace, math.ceil(SHARE * len(before)))
        intake = _time(workspace, "intake")
        increment = {stage: _time(workspace, stage) for stage in STAGES[:-1]}
        n_new = len(pd.read_parquet(workspace.prompts)) - len(before)
    new, old = (times["generate"] + times["label"] for times in (increment, full))
    subject = f"{n_new} new prompts of {len(before) + n_new}"
    return [
        Row(f"`catimage intake`, {subject}", str(intake)),
        *(_row(f"`catimage {stage}`", increment[stage], full[stage]) for stage in full),
        _row(f"generate plus label, {subject}", new, old, target=f"{TARGET:.0%}"),
    ]


def _row(name: str, increment: _Time, full: _Time, target: str = "") -> Row:
    ratio = f"{increment.wall / full.wall:.1%} ({increment.cpu / full.cpu:.1%} CPU)"
    return Row(name, str(increment), f"{full} (all prompts)", ratio, target)


def _copy(demo: Workspace, folder: Path) -> Workspace:
    """Copy the parameters, pools and prompts; images, scores and models are made again."""
    workspace = Workspace(folder)
    shutil.copy(demo.params, workspace.params)
    if demo.pools.exists():
        shutil.copytree(demo.pools, workspace.pools)
    return workspace


def _time(workspace: Workspace, command: str) -> _Time:
    """Return the time of a command."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = [sys.executable, "-m", "catimage.cli.app", command]
    subprocess.run(
        arguments, cwd=workspace.root, check=True, stdout=subprocess.DEVNULL, stderr=sys.stderr
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return _Time(time.perf_counter() - start, cpu)


def _write_log(workspace: Workspace, count: int) -> None:
    """Write a decision log, and add it to the prompt sources with a limit of ``count``."""
    rng = np.random.default_rng(SEED)
    captions = [sample_scene(rng).caption() for _ in range(LOGGED * count)]
    rows: list[dict[str, Any]] = [
        dict.fromkeys(DECISIONS.names)
        | {
            "time": datetime.now(UTC),
            "request_id": str(i),
            "prompt_id": prompt_id(caption),
            "prompt": caption,
            "propensities": [],
            "qualities": [],
            "status": 200,
        }
        for i, caption in enumerate(captions)
    ]
    write_decisions(workspace.root / "log", "benchmark", 0, rows)
    params = yaml.safe_load(workspace.params.read_text())
    params["sample"]["sources"].append({"kind": "decisions", "limit": count, "folder": "log"})
    workspace.params.write_text(yaml.safe_dump(params))
