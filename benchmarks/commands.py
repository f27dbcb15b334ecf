"""How long a user waits for the command line to answer at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Row, seconds


def rows() -> list[Row]:
    command = str(Path(sys.executable).parent / "catimage")
    ours = seconds(lambda: subprocess.run([command, "--help"], check=True, capture_output=True))
    bare = seconds(
        lambda: subprocess.run(
            [sys.executable, "-c", "import typer"], check=True, capture_output=True
        )
    )
    return [
        Row(
            "`catimage --help`",
            f"{ours:.2f} s",
            f"{bare:.2f} s (importing typer)",
            f"{ours / bare:.1f}x its time",
            "1 s",
        )
    ]
