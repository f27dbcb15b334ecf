"""Kill stage generate at random times, and compare the result with an undisturbed run.

    python -m benchmarks.kill_generate WORKSPACE [--kills 20] [--command "dvc repro generate"]

``WORKSPACE`` is a folder with params.yaml and data/prompts.parquet (for ``dvc repro``: a clone of
the repository). Its folder ``data/images`` is deleted twice. The command runs there and is killed
(SIGKILL) with all of its children. With ``--orphan`` only the command is killed, as by a user or
the out-of-memory killer, so that its stage can continue to run.
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
    """Run the command without images; return the seconds to the first shard and to the end."""
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


def disturbed(
    command: list[str],
    workspace: Path,
    kills: int,
    first: float,
    shard_seconds: float,
    orphan: bool,
) -> list[int]:
    """Kill the command ``kills`` times before it ends.

    A run is killed at a random time before its first shard (``first`` seconds), or up to
    ``shard_seconds`` after it has finished one or two shards. With ``orphan``, its children are not
    killed. Returns the number of finished shards at each kill.
    """
    images = workspace / "data" / "images"
    shutil.rmtree(images, ignore_errors=True)
    counts = [0]
    while len(counts) <= kills:
        process = start(command, workspace)
        goal = counts[-1] + random.choice([0, 1, 1, 2])
        while goal > counts[-1] and process.poll() is None and finished(images) < goal:
            time.sleep(0.02)
        time.sleep(random.uniform(0, first if goal == counts[-1] else shard_seconds))
        if (images / "manifest.json").exists():
            raise SystemExit(
                f"{workspace}: the run ended after {len(counts) - 1} kills. Use more prompts,"
                " smaller shards or fewer kills."
            )
        if process.poll() is None:
            process.kill() if orphan else os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            counts.append(finished(images))
    return counts[1:]


def finished(images: Path) -> int:
    return len(list(images.glob("*.parquet")))


def finish(command: list[str], workspace: Path, timeout: float = 600.0) -> None:
    """Run the command to its end; retry while an orphan holds the lock."""
    deadline = time.monotonic() + timeout
    while start(command, workspace).wait() != 0:
        if time.monotonic() > deadline:
            raise SystemExit(f"{workspace}: {shlex.join(command)} did not end in {timeout:.0f} s.")
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
    first, end = undisturbed(arguments.command, arguments.workspace)
    shard_seconds = (end - first) / len(read_manifest(images))
    manifest, expected = (images / "manifest.json").read_bytes(), images_of(images)
    print(
        f"undisturbed: {len(expected)} images, the first shard after {first:.1f} s, all after"
        f" {end:.1f} s",
        flush=True,
    )
    counts = disturbed(
        arguments.command,
        arguments.workspace,
        arguments.kills,
        first,
        shard_seconds,
        arguments.orphan,
    )
    print(f"killed {len(counts)} times, with {counts} finished shards", flush=True)
    finish(arguments.command, arguments.workspace)
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
