"""``make bench``: run benchmarks, each in its own process, and print the table."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from importlib import import_module

DEFAULT = (
    "commands",
    "decision",
    "fitting",
    "calibration",
    "similarity",
    "generate",
    "generators",
    "label",
    "dvc_noop",
)
"""The benchmarks that run if no name is given."""
ON_REQUEST = ("add_candidate", "certificate", "flows", "increment", "kills", "monitor", "size")
"""Benchmarks that take minutes; run only if named."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        default=DEFAULT,
        help=f"default: {', '.join(DEFAULT)}; others: {', '.join(ON_REQUEST)}",
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        for row in import_module(f"benchmarks.{arguments.one}").rows():
            print(row, flush=True)
        return
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print("| measurement | CATImage | alternative | ratio | target |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    failed = [name for name in arguments.names if not _run(name)]
    if failed:
        sys.exit(f"benchmarks: {', '.join(failed)} failed. See the errors above.")


def _run(name: str) -> bool:
    """Run a benchmark in its own process; return whether it succeeded."""
    command = [sys.executable, "-m", "benchmarks", "--one", name]
    return subprocess.run(command).returncode == 0


if __name__ == "__main__":
    main()
