"""``python -m benchmarks.serving NAME...``: run benchmarks of the service and print the table."""

from __future__ import annotations

import argparse
import inspect
import os
import platform
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks.serving.options import Options
from benchmarks.serving.services import packaged
from catimage.serving.bento.supervisor import PROCESS_ENVIRONMENT

NAMES = ("overhead", "route", "compare", "memory", "lifecycle", "burst", "replay")
"""The benchmarks that start services; others, such as ``engine``, run if they are named."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help=f"default: {', '.join(NAMES)}")
    parser.add_argument("--workspace", type=Path, default=Path(), help="a trained workspace")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--seconds", type=float, help="duration of the traffic replay")
    parser.add_argument("--out", type=Path, default=Options.out, help="folder of tables and plots")
    parser.add_argument("--packaged", type=Path, help="a workspace that is packaged already")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    options = Options(
        arguments.workspace.resolve(),
        arguments.packaged and arguments.packaged.resolve(),
        arguments.short,
        arguments.seconds,
        arguments.out.resolve(),
    )
    if arguments.one:
        _print_rows(arguments.one, options)
        return
    if not set(arguments.names) & set(NAMES):
        _run_all(arguments.names, options)
        return
    with packaged(options) as package:
        _run_all(arguments.names, replace(options, packaged=package.folder))


def _run_all(names: list[str], options: Options) -> None:
    """Run each benchmark in its own process."""
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print("| measurement | CATImage | alternative | ratio | target |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    command = [sys.executable, "-m", "benchmarks.serving", *_flags(options)]
    env = PROCESS_ENVIRONMENT | os.environ  # as the processes of the service
    failed = [n for n in names if subprocess.run([*command, "--one", n], env=env).returncode]
    if failed:
        sys.exit(f"benchmarks: {', '.join(failed)} failed. See the errors above.")


def _flags(options: Options) -> list[str]:
    flags = ["--workspace", str(options.workspace), "--out", str(options.out)]
    flags += ["--short"] if options.short else []
    flags += ["--packaged", str(options.packaged)] if options.packaged else []
    return flags if options.seconds is None else [*flags, "--seconds", str(options.seconds)]


def _print_rows(name: str, options: Options) -> None:
    """Print the rows of one benchmark; one without options takes none."""
    rows = import_module(f"benchmarks.serving.{name}").rows
    for row in rows(options) if inspect.signature(rows).parameters else rows():
        print(row, flush=True)


if __name__ == "__main__":
    main()
