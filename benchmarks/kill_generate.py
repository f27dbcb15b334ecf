"""Kills stage generate at random moments and holds what it comes to against an undisturbed run.

    python -m benchmarks.kill_generate WORKSPACE [--kills 20] [--command "dvc repro generate"]

``WORKSPACE`` is a folder with params.yaml and data/prompts.parquet (for ``dvc repro``: a clone of
the repository). Its ``data/images`` is deleted, twice. The command runs there, and is killed
(SIGKILL) with all of its children; where ``--orphan`` is given, alone, as an impatient user or the
out-of-memory killer would do, so that its stage may run on.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import read_shard

Image = tuple[str, str, int, bytes]


def images_of(folder: Path) -> list[Image]:
    rows = [
        row
        for entry in read_manifest(folder)
        for row in read_shard(folder, entry.shard)[0].to_pylist()
    ]
    return [(r["prompt_id"], r["candidate"], r["seed"], r["image"]) for r in rows]


def start(command: list[str], workspace: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=workspace,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def undisturbed(command: list[str], workspace: Path) -> tuple[float, float]:
    """A run from nothing: seconds to its first shard, and to its end."""
    images = workspace / "data" / "images"
    shutil.rmtree(images, ignore_errors=True)
    begun, first = time.monotonic(), 0.0
    process = start(command, workspace)
    while process.poll() is None:
        time.sleep(0.02)
        first = first or (time.monotonic() - begun) * bool(list(images.glob("*.parquet")))
    if process.returncode != 0:
        raise SystemExit(f"{shlex.join(command)} fails in {workspace}; run it there to see why")
    return first, time.monotonic() - begun


def disturbed(
    command: list[str], workspace: Path, kills: int, first: float, pace: float, orphan: bool
) -> list[int]:
    """Kills the command ``kills`` times, before it is done; returns the numbers of finished shards
    seen at each.

    A kill comes at a random moment of the start, or up to a shard's time after the run has finished
    one or two shards.
    """
    images = workspace / "data" / "images"
    shutil.rmtree(images, ignore_errors=True)
    seen = [0]
    while len(seen) <= kills:
        process = start(command, workspace)
        goal = seen[-1] + random.choice([0, 1, 1, 2])
        while goal > seen[-1] and process.poll() is None and finished(images) < goal:
            time.sleep(0.02)
        time.sleep(random.uniform(0, first if goal == seen[-1] else pace))
        if (images / "manifest.json").exists():
            raise SystemExit(
                f"it was done after {len(seen) - 1} kills: take more prompts, smaller shards, or"
                " fewer kills"
            )
        if process.poll() is None:
            process.kill() if orphan else os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            seen.append(finished(images))
    return seen[1:]


def finished(images: Path) -> int:
    return len(list(images.glob("*.parquet")))


def finish(command: list[str], workspace: Path, patience: float = 600.0) -> None:
    """Runs the command to its end; while an orphan still holds the lock, it stops, and is tried
    again.
    """
    until = time.monotonic() + patience
    while start(command, workspace).wait() != 0:
        if time.monotonic() > until:
            raise SystemExit(f"{shlex.join(command)} does not come to an end in {workspace}")
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--command", type=shlex.split, default=["catimage", "generate"])
    parser.add_argument("--orphan", action="store_true")
    asked = parser.parse_args()
    images = asked.workspace / "data" / "images"
    first, end = undisturbed(asked.command, asked.workspace)
    pace = (end - first) / len(read_manifest(images))
    manifest, expected = (images / "manifest.json").read_bytes(), images_of(images)
    print(
        f"undisturbed: {len(expected)} images, the first shard after {first:.1f} s, all after"
        f" {end:.1f} s",
        flush=True,
    )
    seen = disturbed(asked.command, asked.workspace, asked.kills, first, pace, asked.orphan)
    print(f"killed {len(seen)} times, with {seen} finished shards", flush=True)
    finish(asked.command, asked.workspace)
    found = images_of(images)
    checks = {
        "every image once": (
            max(Counter(row[:3] for row in found).values()) == 1 and len(found) == len(expected)
        ),
        "plans and digests equal": (images / "manifest.json").read_bytes() == manifest,
        "images equal": found == expected,
        "nothing beside them": len(list(images.iterdir())) == 1 + len(read_manifest(images)),
    }
    for what, holds in checks.items():
        print("ok   " if holds else "FAILS", what)
    raise SystemExit(not all(checks.values()))


if __name__ == "__main__":
    main()
