"""Kill stage generate at random times, and compare its images with those of an undisturbed run.

Usage:

    python -m benchmarks.kill_generate WORKSPACE [--kills 20] [--command "dvc repro generate"]

``WORKSPACE`` is a folder with params.yaml and data/prompts.parquet (for ``dvc repro``: a clone of
the repository). The benchmark deletes the folder ``data/images`` of the workspace twice. The
command runs in the workspace and is killed (SIGKILL) with all of its child processes. With
``--orphan``, only the command is killed, as by a user or the out-of-memory killer, so that the
process of the stage can continue to run.
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
"""Prompt id, candidate, seed and encoded image."""


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


def run_undisturbed(command: list[str], workspace: Path) -> tuple[float, float]:
    """Delete all images and run the command; return the seconds to the first shard and in total."""
    images = workspace / "data" / "images"
    shutil.rmtree(images, ignore_errors=True)
    begin, first = time.monotonic(), 0.0
    process = start(command, workspace)
    while process.poll() is None:
        time.sleep(0.02)
        first = first or (time.monotonic() - begin) * bool(list(images.glob("*.parquet")))
    if process.returncode != 0:
        raise SystemExit(
            f"{workspace}: {shlex.join(command)} failed. Run it there to see the error."
        )
    return first, time.monotonic() - begin


def run_with_kills(
    command: list[str],
    workspace: Path,
    kills: int,
    first: float,
    shard_seconds: float,
    orphan: bool,
) -> list[int]:
    """Delete all images, and run and kill the command ``kills`` times.

    Args:
        command: the command.
        workspace: the folder to run it in.
        kills: the number of runs to kill.
        first: seconds from the start of the command to the first shard.
        shard_seconds: the longest random delay between a finished shard and the kill.
        orphan: if True, the child processes of the command are not killed.

    Returns:
        The number of finished shards at each kill.
    """
    images = workspace / "data" / "images"
    shutil.rmtree(images, ignore_errors=True)
    counts = [0]
    while len(counts) <= kills:
        process = start(command, workspace)
        target = counts[-1] + random.choice([0, 1, 1, 2])
        while target > counts[-1] and process.poll() is None and count_shards(images) < target:
            time.sleep(0.02)
        time.sleep(random.uniform(0, first if target == counts[-1] else shard_seconds))
        if (images / "manifest.json").exists():
            raise SystemExit(
                f"{workspace}: the run ended after {len(counts) - 1} kills. Use more prompts,"
                " smaller shards or fewer kills."
            )
        if process.poll() is None:
            process.kill() if orphan else os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            counts.append(count_shards(images))
    return counts[1:]


def count_shards(folder: Path) -> int:
    return len(list(folder.glob("*.parquet")))


def run_to_end(command: list[str], workspace: Path, timeout: float = 600.0) -> None:
    """Run the command to its end; retry while it fails, as when an orphan holds the lock."""
    deadline = time.monotonic() + timeout
    while start(command, workspace).wait() != 0:
        if time.monotonic() > deadline:
            raise SystemExit(
                f"{workspace}: {shlex.join(command)} did not succeed in {timeout:.0f} s."
                " Run it there to see the error."
            )
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--command", type=shlex.split, default=["catimage", "generate"])
    parser.add_argument("--orphan", action="store_true")
    arguments = parser.parse_args()
    images = arguments.workspace / "data" / "images"
    first, end = run_undisturbed(arguments.command, arguments.workspace)
    shard_seconds = (end - first) / len(read_manifest(images))
    manifest, expected = (images / "manifest.json").read_bytes(), images_of(images)
    print(
        f"undisturbed: {len(expected)} images, the first shard after {first:.1f} s, all after"
        f" {end:.1f} s",
        flush=True,
    )
    counts = run_with_kills(
        arguments.command,
        arguments.workspace,
        arguments.kills,
        first,
        shard_seconds,
        arguments.orphan,
    )
    print(f"killed {len(counts)} times, with {counts} finished shards", flush=True)
    run_to_end(arguments.command, arguments.workspace)
    result = images_of(images)
    checks = {
        "every image once": (
            max(Counter(row[:3] for row in result).values()) == 1 and len(result) == len(expected)
        ),
        "plans and digests equal": (images / "manifest.json").read_bytes() == manifest,
        "images equal": result == expected,
        "no other files": len(list(images.iterdir())) == 1 + len(read_manifest(images)),
    }
    for name, passed in checks.items():
        print("ok    " if passed else "FAILED", name)
    raise SystemExit(not all(checks.values()))


if __name__ == "__main__":
    main()
