"""Processes that are killed, and checks of the outputs that they leave (benchmarks/kills.py)."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import ZipFile

from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import read_shard

TABLES = ("data/prompts.parquet", "data/candidates.parquet", "data/scores.parquet")
FOLDERS = ("models/estimators", "models/router")
OUTPUTS = (*TABLES, *FOLDERS, "data/images/manifest.json", "reports/validation.json", "params.yaml")
_RECORDS = ("inputs.json", "router.json", "validation.json")
"""Files that contain digests of other outputs."""


def check_images(folder: Path) -> None:
    """Check that every image exists once, undamaged, and that there is no other file."""
    keys: list[tuple[str, str, int]] = []
    entries = read_manifest(folder)
    for entry in entries:
        table, digest = read_shard(folder, entry.shard)
        check(digest == entry.digest, f"{entry.shard}: other images than the manifest lists")
        keys += [(r["prompt_id"], r["candidate"], r["seed"]) for r in table.to_pylist()]
    check(len(keys) == len(set(keys)), "an image exists twice")
    names = {f"{entry.shard}.parquet" for entry in entries} | {"manifest.json"}
    check({path.name for path in folder.iterdir()} == names, "there are other files of images")


def digests(workspace: Path) -> dict[str, str]:
    """Return the digest of the content of each output; empty if it does not exist."""
    result = {}
    for name in OUTPUTS:
        root = workspace / name
        files = sorted(root.rglob("*")) if root.is_dir() else [root]
        contents = [(str(f.relative_to(root)), _content(f)) for f in files if f.is_file()]
        result[name] = hashlib.sha256(repr(contents).encode()).hexdigest() if contents else ""
    return result


def _content(path: Path) -> bytes:
    """Return the content of a file without the parts that differ between equal runs.

    skops stores addresses in memory. Records of inputs contain the digests of skops files.
    """
    if path.suffix == ".skops":
        with ZipFile(path) as archive:
            schema = re.sub(rb"\b\d{15}\b", b"", archive.read("schema.json"))
            arrays = [archive.read(n) for n in archive.namelist() if n != "schema.json"]
        return b"".join([schema, *sorted(arrays)])
    data = path.read_bytes()
    return re.sub(rb"[0-9a-f]{64}", b"", data) if path.name in _RECORDS else data


def file_states(workspace: Path) -> set[tuple[str, int]]:
    """Return the names and times of the files in a workspace, without lock files."""
    states = set()
    for path in workspace.rglob("*"):
        with suppress(FileNotFoundError):  # renamed since it was listed
            if path.suffix != ".lock" and path.is_file():
                states.add((str(path), path.lstat().st_mtime_ns))
    return states


def killed(arguments: tuple[str, ...], workspace: Path, delay: float) -> bool:
    """Run a command and kill it after ``delay`` seconds; return False if it ended earlier."""
    with running(arguments, workspace) as process:
        try:
            check(process.wait(delay) == 0, f"catimage {' '.join(arguments)} failed")
        except subprocess.TimeoutExpired:
            return True
    return False


@contextmanager
def running(arguments: tuple[str, ...], workspace: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of catimage in its own process group, which is killed in the end."""
    command = [str(Path(sys.executable).parent / "catimage"), *arguments]
    process = subprocess.Popen(
        [*command, "--workspace", str(workspace)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_to_end(arguments: tuple[str, ...] | list[str], workspace: Path) -> None:
    """Run a command to its end."""
    with running(tuple(arguments), workspace) as process:
        check(process.wait() == 0, f"{workspace}: catimage {' '.join(arguments)} failed")


def run_undisturbed(arguments: tuple[str, ...], workspace: Path) -> tuple[float, float]:
    """Run a command to its end; return the seconds to the first change of a file and in total."""
    before, start, first = file_states(workspace), time.monotonic(), 0.0
    with running(arguments, workspace) as process:
        while process.poll() is None:
            time.sleep(0.05)
            if not first and file_states(workspace) != before:
                first = time.monotonic() - start
        check(process.returncode == 0, f"{workspace}: catimage {' '.join(arguments)} failed")
    duration = time.monotonic() - start
    return first or duration, duration


def check(condition: bool, message: str) -> None:
    """Stop the benchmark with a message if a condition is false."""
    if not condition:
        raise SystemExit(message)
