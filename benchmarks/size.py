"""Time and memory of the stages on imported scores: one seed for all images, and a seed per image.

Both tables have as many rows, so both should take the same time and memory.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Row

PROMPTS = 20_000
CANDIDATES = {"cheap": 1, "middle": 2, "expensive": 4}
"""The cost of each candidate."""
VOCABULARY = (
    "cat",
    "dog",
    "ring",
    "cube",
    "red",
    "blue",
    "small",
    "large",
    "glass",
    "river",
    "city",
)
STAGES = ("validate", "train", "calibrate", "evaluate")


def rows() -> list[Row]:
    """Measure import and stages with a seed per image, compared with one seed."""
    with TemporaryDirectory() as name:
        one_seed, seed_per_image = (_measure(Path(name), own_seeds) for own_seeds in (False, True))
    return [
        Row(
            f"{command}, {PROMPTS:,} prompts x {len(CANDIDATES)} candidates, a seed per image",
            _format(*seed_per_image[command]),
            f"{_format(*one_seed[command])} (one seed)",
            " and ".join(
                f"{own / one:.2f}x its {quantity}"
                for own, one, quantity in zip(
                    seed_per_image[command], one_seed[command], ("time", "memory"), strict=True
                )
            ),
            "1.5x",
        )
        for command in seed_per_image
    ]


def _format(seconds: float, gigabytes: float) -> str:
    return f"{seconds:.1f} s, {gigabytes:.2f} GB"


def _measure(folder: Path, own_seeds: bool) -> dict[str, tuple[float, float]]:
    """Return seconds and peak GB of each command."""
    workspace = folder / f"workspace-{own_seeds}"
    scores, costs = folder / "scores.csv", folder / "costs.csv"
    _write_scores(scores, own_seeds)
    lines = [f"{name},{cost},usd" for name, cost in CANDIDATES.items()]
    costs.write_text("\n".join(["candidate,cost,unit", *lines]))
    importing = ["import-scores", str(scores), "--costs", str(costs), "--set", "budget=60%"]
    commands = {"import-scores": importing, **{stage: [stage] for stage in STAGES}}
    return {
        name: _run([*arguments, "--workspace", str(workspace)])
        for name, arguments in commands.items()
    }


def _write_scores(path: Path, own_seeds: bool) -> None:
    """Write random scores of random prompts."""
    rng = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "candidate", "seed", "metric", "value"])
        for i in range(PROMPTS):
            prompt = f"{' '.join(rng.sample(VOCABULARY, 5))} number {i}"
            for k, candidate in enumerate(CANDIDATES):
                seed = rng.randrange(2**32) if own_seeds else 0
                writer.writerow([prompt, candidate, seed, "quality", rng.random() + 0.1 * k])


def _run(arguments: list[str]) -> tuple[float, float]:
    """Run a command of CATImage; return its seconds and its peak memory in GB."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "catimage.cli.app", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(arguments)}: the command failed. See its output above.")
    return time.perf_counter() - start, usage.ru_maxrss / 1024**2
