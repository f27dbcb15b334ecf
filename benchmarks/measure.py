"""Measurement of time and memory, and the rows of the table."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: the measured operation.
        value: the measurement of CATImage, with its unit.
        alternative: the measurement of an alternative, with its name.
        ratio: the ratio of the two measurements.
        target: the required value of the measurement or of the ratio.
    """

    name: str
    value: str
    alternative: str = ""
    ratio: str = ""
    target: str = ""

    def __str__(self) -> str:
        cells = (self.name, self.value, self.alternative, self.ratio, self.target)
        return f"| {' | '.join(cells)} |"


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Return the median time of a call in seconds, after one warm-up call."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def peak_gigabytes() -> float:
    """Return the peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
