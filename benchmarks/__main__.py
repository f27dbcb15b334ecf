"""``make bench``: every benchmark in a process of its own, so that none pays for another's memory;
prints the table.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from importlib import import_module

MODULES = (
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
LONG = ("adding", "guarantee")
"""Minutes each, and about accuracy or coverage: run by name alone."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        default=MODULES,
        help=f"of {', '.join(MODULES)} (all by default), or {', '.join(LONG)}",
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        for row in import_module(f"benchmarks.{args.one}").rows():
            print(
                f"| {row.what} | {row.ours} | {row.other} | {row.ratio} | {row.target} |",
                flush=True,
            )
        return
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print("| what | CATImage | instead | ratio | target |\n|---|---|---|---|---|", flush=True)
    failed = [
        name
        for name in args.names
        if subprocess.run([sys.executable, "-m", "benchmarks", "--one", name]).returncode
    ]
    if failed:
        sys.exit(f"benchmarks: {', '.join(failed)} failed; their words are above.")


if __name__ == "__main__":
    main()
