"""The workspace of the demonstration: ``catimage init``, its parameters, prompts and schedules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import catimage
from catimage.params.editing import read_tree, save_params
from catimage.scenes.grammar import sample_scene
from experiments.operations.servers import STATE
from experiments.operations.sizes import Size

TRAINED_KINDS, NEW_KINDS = ("simple", "middling", "crowded"), ("patterned",)
"""The kinds of scenes that the first router is trained on, and those that come later. Most models
of the pool cannot draw walls with patterns, and one was made for them."""
PROMPTS, POOL = "prompts.txt", "some"
_POOLS = Path(catimage.__file__).parent / "pools"
_HOURLY = "{cron: 7 * * * *, timezone: UTC, active: true}"
_NIGHTLY = "{cron: 30 4 * * *, timezone: Europe/Berlin, active: true}"


def create_project(folder: Path, size: Size) -> None:
    """Create the workspace as a git repository with one commit.

    Args:
        folder: a folder that does not exist or is empty.
        size: the size of the demonstration.
    """
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    command = [sys.executable, "-m", "catimage.cli.app", "init", str(folder)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    (folder / STATE).mkdir()
    (folder / PROMPTS).write_text("\n".join(captions(size.prompts, TRAINED_KINDS, 0)) + "\n")
    tree = read_tree(folder / "params.yaml")
    for section, values in _settings(size).items():
        if isinstance(values, dict):
            tree[section].update(values)
        else:
            tree[section] = values
    save_params(tree, folder / "params.yaml")
    if size.candidates:
        _write_pool(folder / "pools" / f"{POOL}.yaml", size.candidates)
    _set_schedules(folder / "prefect.yaml", size.interval)
    _commit(folder)


def captions(count: int, scene_kinds: tuple[str, ...], seed: int) -> list[str]:
    """Return distinct captions of kinds of scenes."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(sample_scene(rng, *scene_kinds).caption())
    return list(found)


def _settings(size: Size) -> dict[str, Any]:
    """Return the parameters that differ from those of ``catimage init``.

    The budget is so high that it hardly limits the router: with few validation prompts, a
    calibrated mean cost can be above a tight budget by chance, and the gate then refuses the
    router.
    """
    return {
        "pool": POOL if size.candidates else "tiny",
        "budget": "80%",
        "sample": {
            "sources": [
                {"kind": "file", "path": PROMPTS},
                {"kind": "decisions", "limit": size.taken},
            ],
            "max_similarity": 0.9,
            "gate_share": size.gate_share,
        },
        "label": {"metrics": ["clip_score"]},
        "train": {"estimators": ["ridge", "kernel_ridge"]},
        "evaluate": {"bootstrap": 500, "set_metrics": [], "trials": 0},
        "serving": {"log_prompts": True, "explore": 0.1},
        "monitor": {
            "interval_minutes": size.interval / 60,
            "delay_seconds": 2.0,
            "prompts": {"baseline_prompts": size.baseline_prompts},
            "audit": {"prompts": size.audits},
        },
    }


def _write_pool(path: Path, candidates: tuple[str, ...]) -> None:
    """Write a pool with some of the candidates of the pool ``tiny``."""
    pool = yaml.safe_load((_POOLS / "tiny.yaml").read_text())
    kept = [entry for entry in pool["candidates"] if entry["candidate"] in candidates]
    names = {entry["generator"] for entry in kept}
    generators = {name: pool["generators"][name] for name in sorted(names)}
    for generator in generators.values():
        for part in (generator, *generator.get("parts", {}).values(), generator.get("lora", {})):
            if "weights" in part:
                part["weights"] = str(_POOLS / part["weights"])
    path.parent.mkdir()
    small = {"name": POOL, "generators": generators, "candidates": kept, "costs": pool["costs"]}
    path.write_text(yaml.safe_dump(small))


def _set_schedules(path: Path, interval: int) -> None:
    """Run the monitor more often than every hour, and no nightly retrain."""
    text = path.read_text()
    for old, new in (
        (_HOURLY, f"{{interval: {interval}, active: true}}"),
        (_NIGHTLY, _NIGHTLY.replace("true", "false")),
    ):
        assert old in text, f"{path}: no schedule {old}"
        text = text.replace(old, new)
    path.write_text(text)


def _commit(folder: Path) -> None:
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost"]
    for arguments in (["add", "."], [*identity, "commit", "--quiet", "--message=Workspace"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
