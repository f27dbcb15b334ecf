"""One way to time, one way to measure memory, one row of the table."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, ours, the other way, and the target that the project
    set itself.
    """

    what: str
    ours: str
    other: str = ""
    ratio: str = ""
    target: str = ""


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """The median seconds of a call, after one to warm up."""
    call()
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return float(np.median(spent))


def peak_gigabytes() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
