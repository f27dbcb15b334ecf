"""Kill generate, label, train and add-candidate at random times, and compare the results.

Usage:

    python -m benchmarks kills                                    all four, 20 kills each
    python -m benchmarks.kills generate label [--kills 20]        some of them

Each command runs in a workspace of the embedded pool and is killed (SIGKILL, with its child
processes) at a random time between the first change of a file (in 80% of its time) and the end of
an undisturbed run. The next run continues; a run that ends before its kill is compared with the
undisturbed run, and the workspace is reset. After each kill, the
outputs must be those before or after the command. In the end, they must equal those of the
undisturbed run, and no temporary file may be left.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks.kill_checks import (
    OUTPUTS,
    check,
    check_images,
    digests,
    file_states,
    killed,
    run_to_end,
    run_undisturbed,
)
from benchmarks.measure import Row
from catimage.pool.loading import PACKAGED

NAMES = ("generate", "label", "train", "add-candidate")
KILLS = 20
CANDIDATES, ADDED = ("tiny-turbo", "tiny-sd-2"), "tiny-lightning"
PROMPTS, REPRESENTATIVES = 150, 40


@dataclass(frozen=True)
class Command:
    """A command to kill.

    Attributes:
        name: its name.
        arguments: the arguments of ``catimage``.
        removed: the files that are removed before an undisturbed run, relative to the workspace.
        together: whether all outputs change together; otherwise one after the other.
    """

    name: str
    arguments: tuple[str, ...]
    removed: tuple[str, ...] = ()
    together: bool = False


COMMANDS = {
    "generate": Command("generate", ("generate",), ("data/images", "data/candidates.parquet")),
    "label": Command("label", ("label",), ("data/scores.parquet", "data/.labels")),
    "train": Command("train", ("train",)),
    "add-candidate": Command(
        "add-candidate", ("add-candidate", ADDED, "--prompts", str(REPRESENTATIVES)), (), True
    ),
}


def rows() -> Iterator[Row]:
    """Yield a row for each command."""
    return measure(NAMES, KILLS)


def measure(names: tuple[str, ...], kills: int) -> Iterator[Row]:
    """Kill each of some commands ``kills`` times; yield a row for each.

    Raises:
        SystemExit: a check fails.
    """
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared"
        prepare(prepared)
        for name in names:
            yield Trial(COMMANDS[name], prepared, Path(folder) / name).run(kills)


def prepare(workspace: Path) -> None:
    """Create a workspace with a calibrated router."""
    workspace.mkdir()
    tree = {
        "pool": "kills",
        "sample": {"sources": [{"kind": "scenes", "count": PROMPTS}]},
        "generate": {"seeds": [0], "shard_images": 32},
        "train": {"estimators": ["ridge", "knn"]},
        "budget": "60%",
    }
    (workspace / "params.yaml").write_text(yaml.safe_dump(tree))
    write_pool(workspace, CANDIDATES)
    for stage in ("sample", "generate", "label", "validate", "train", "calibrate"):
        run_to_end([stage], workspace)


def write_pool(workspace: Path, candidates: tuple[str, ...]) -> None:
    """Write a pool with some of the candidates of the embedded pool."""
    text = (PACKAGED / "tiny.yaml").read_text().replace("tiny/", f"{PACKAGED}/tiny/")
    tree = yaml.safe_load(text)
    tree["candidates"] = [c for c in tree["candidates"] if c["candidate"] in candidates]
    used = {candidate["generator"] for candidate in tree["candidates"]}
    tree["generators"] = {name: g for name, g in tree["generators"].items() if name in used}
    for key in ("reference_condition", "metric_reference"):
        del tree[key]
    (workspace / "pools").mkdir(exist_ok=True)
    (workspace / "pools" / "kills.yaml").write_text(yaml.safe_dump({**tree, "name": "kills"}))


class Trial:
    """One command in one workspace.

    Args:
        command: the command.
        prepared: a workspace with a calibrated router.
        folder: a folder to create, with the workspace and its state before the command.
    """

    def __init__(self, command: Command, prepared: Path, folder: Path) -> None:
        self._command, self._before = command, folder / "before"
        self._workspace = folder / "workspace"
        shutil.copytree(prepared, self._before)
        for name in command.removed:
            path = self._before / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if command.name == "add-candidate":
            write_pool(self._before, (*CANDIDATES, ADDED))
        self._old = digests(self._before)
        self._reset()

    def run(self, kills: int) -> Row:
        """Kill the command ``kills`` times, and run it to its end."""
        first, duration = run_undisturbed(self._command.arguments, self._workspace)
        self._new = digests(self._workspace)
        self._reset()
        counts = Counter[str]()
        while counts["killed"] < kills:
            files = file_states(self._workspace)
            if killed(
                self._command.arguments, self._workspace, random.uniform(0.8 * first, duration)
            ):
                counts["killed"] += 1
                counts["work saved or begun"] += file_states(self._workspace) != files
                self._check_after_kill()
            else:
                counts["ended before the kill"] += 1
                self._check_end()
                self._reset()
        run_to_end(self._command.arguments, self._workspace)
        self._check_end()
        begun, ended = counts["work saved or begun"], counts["ended before the kill"]
        return Row(
            f"{self._command.name} killed {kills} times",
            f"outputs intact after each kill and equal at the end ({begun} kills after the first"
            f" change of a file, {ended} runs ended before their kill)",
            f"undisturbed run of {duration:.0f} s, first change after {first:.0f} s",
        )

    def _reset(self) -> None:
        shutil.rmtree(self._workspace, ignore_errors=True)
        shutil.copytree(self._before, self._workspace)

    def _check_after_kill(self) -> None:
        """Check that every output has its content before or after the command."""
        if self._command.together:
            run_to_end(["sources"], self._workspace)  # completes an interrupted replacement
        current = digests(self._workspace)
        if self._command.together:
            check(current in (self._old, self._new), f"{self._command.name}: mixed outputs")
            if current == self._new:
                self._reset()
            return
        for name, digest in current.items():
            possible = (self._old[name], self._new[name])
            check(digest in possible, f"{self._command.name}: {name} is damaged after a kill")

    def _check_end(self) -> None:
        """Check that the outputs equal those of the undisturbed run."""
        current = digests(self._workspace)
        changed = [name for name in OUTPUTS if current[name] != self._new[name]]
        check(not changed, f"{self._command.name}: {', '.join(changed)} differ in the end")
        check_images(self._workspace / "data" / "images")
        left = [p for suffix in ("new", "old") for p in self._workspace.rglob(f".*.{suffix}")]
        check(not left, f"{self._command.name}: temporary files are left: {left}")


def main() -> None:
    """Run the benchmark for the commands in the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=NAMES, help=", ".join(NAMES))
    parser.add_argument("--kills", type=int, default=KILLS)
    arguments = parser.parse_args()
    for row in measure(tuple(arguments.names), arguments.kills):
        print(row, flush=True)


if __name__ == "__main__":
    main()
