"""Options of the benchmarks of the service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        workspace: a workspace with a trained router of the embedded pool, as ``make demo`` makes.
        packaged: a workspace that the stage package has run in with the present code; None to
            package ``workspace`` first.
        short: whether to run a short version, to try the benchmark.
        seconds: duration of the traffic replay; None for the default.
        out: folder of tables and plots.
    """

    workspace: Path = Path()
    packaged: Path | None = None
    short: bool = False
    seconds: float | None = None
    out: Path = Path("reports/serving")
