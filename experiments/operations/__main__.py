"""Runs the demonstration: ``python -m experiments.operations [--folder DIR] [--size SIZE]``."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path

import httpx

from experiments.operations.servers import STATE, Servers, end_marked_processes
from experiments.operations.sizes import SIZES
from experiments.operations.story import Story
from experiments.operations.timeline import StepError, Timeline

FOLDER = Path("build") / "demo-operations"


def main() -> None:
    """Run all steps, and end all processes; the exit status is 1 if a step fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the new workspace")
    parser.add_argument("--size", choices=list(SIZES), default="full")
    options = parser.parse_args()
    # A shell starts background jobs with SIGINT ignored; this program ends its servers after it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("demo-operations: terminated"))
    folder = options.folder.absolute()
    _remove_previous(folder)
    servers = Servers(folder)
    timeline = Timeline(servers.check)
    try:
        with servers:
            Story(folder, SIZES[options.size], servers, timeline).run()
    except StepError as error:
        sys.exit(f"demo-operations: {error}. The logs are in {servers.state}/logs.")
    except httpx.HTTPError as error:
        sys.exit(f"demo-operations: {error.request.url}: {error}. See {servers.state}/logs.")
    except KeyboardInterrupt:
        sys.exit("demo-operations: interrupted; all servers have been stopped.")
    minutes = timeline.seconds / 60
    print(f"\nDone in {minutes:.1f} minutes. All servers have been stopped; logs are in {folder}.")


def _remove_previous(folder: Path) -> None:
    """Remove the workspace of an earlier demonstration; other folders are not touched."""
    if (folder / STATE).is_dir():
        end_marked_processes(folder)
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        sys.exit(f"--folder {folder}: not a workspace of this demonstration. Choose a new folder.")


if __name__ == "__main__":
    main()
