"""Start-up time of the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Row, seconds


def rows() -> list[Row]:
    """Compare ``catimage --help`` with importing typer."""
    command = str(Path(sys.executable).parent / "catimage")
    help_time = _run_time([command, "--help"])
    typer_time = _run_time([sys.executable, "-c", "import typer"])
    return [
        Row(
            "`catimage --help`",
            f"{help_time:.2f} s",
            f"{typer_time:.2f} s (importing typer)",
            f"{help_time / typer_time:.1f}x its time",
            "1 s",
        )
    ]


def _run_time(command: list[str]) -> float:
    """Return the median run time of a command in seconds."""
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))
