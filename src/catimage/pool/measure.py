"""Measures the time and the GPU energy of generating one image on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from catimage.common.devices import device_of
from catimage.data.shards.manifest import ShardEntry
from catimage.data.shards.store import read_seconds
from catimage.errors import InputError
from catimage.pool.kind import Generator
from catimage.pool.registry import kind_class
from catimage.pool.spec import Candidate, Pool

PROMPT = "two small red rings and a large blue square on a grey background"
"""The default prompt of a measurement."""
REPEATS = 5
"""The default number of repeats."""
_MIN_SECONDS = 0.5
"""Minimum time between two readings of the energy counter, which changes ten times per second."""


@dataclass(frozen=True)
class Measurement:
    """Measured cost of one image.

    Attributes:
        seconds: median of the seconds over the repeats.
        seconds_iqr: interquartile range of the seconds.
        wh: median of the watt-hours; None without an energy counter.
        wh_iqr: interquartile range of the watt-hours; None without an energy counter.
    """

    seconds: float
    seconds_iqr: float
    wh: float | None
    wh_iqr: float | None


class EnergyMeter:
    """Reads the energy counters of all GPUs that are visible to torch (``CUDA_VISIBLE_DEVICES``).

    NVML counts the energy of whole cards since the driver was loaded. The energy of idle cards is
    included; that of the CPU, the host's memory and the power supply is not.

    Raises:
        pynvml.NVMLError: the driver is not found, or a GPU has no energy counter.
    """

    def __init__(self) -> None:
        import pynvml  # type: ignore[import-untyped]
        import torch

        pynvml.nvmlInit()
        self._read: Callable[[Any], int] = pynvml.nvmlDeviceGetTotalEnergyConsumption  # millijoules
        uuids = [
            str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())
        ]
        self._cards = [
            pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
            for uuid in uuids
        ]
        self.joules()  # raises the error for a GPU without a counter

    def joules(self) -> float:
        """Return the sum of all counters in joules."""
        return sum(self._read(card) for card in self._cards) / 1000


def energy_meter(device: str) -> EnergyMeter | None:
    """Return a meter for a device; None if the device is not a GPU with an energy counter.

    Args:
        device: a device name of torch, or ``auto``.
    """
    if not device_of(device).startswith("cuda"):
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        return EnergyMeter()
    except pynvml.NVMLError:
        return None


def measure(
    generator: Generator,
    candidate: Candidate,
    prompt: str = PROMPT,
    repeats: int = REPEATS,
    meter: EnergyMeter | None = None,
) -> Measurement:
    """Measure the cost of an image that is generated alone, including text encoding.

    Two images are generated first as a warm-up.

    Args:
        generator: a loaded generator.
        candidate: a candidate of the generator.
        prompt: the prompt.
        repeats: number of repeats after the warm-up, each with other seeds. Without a meter, a
            repeat is one image. With a meter, it is the mean of as many images as take half a
            second.
        meter: meter of the energy; None measures only the time.
    """
    _mean_cost(generator, candidate, prompt, range(1), meter)
    seconds, _ = _mean_cost(generator, candidate, prompt, range(1), meter)
    images = max(1, math.ceil(_MIN_SECONDS / seconds)) if meter else 1
    costs = [
        _mean_cost(
            generator, candidate, prompt, range(repeat * images, (repeat + 1) * images), meter
        )
        for repeat in range(repeats)
    ]
    low, median, high = np.percentile(np.array(costs), (25, 50, 75), axis=0)
    wh = (float(median[1]), float(high[1] - low[1])) if meter else (None, None)
    return Measurement(float(median[0]), float(high[0] - low[0]), *wh)


def _mean_cost(
    generator: Generator,
    candidate: Candidate,
    prompt: str,
    seeds: range,
    meter: EnergyMeter | None,
) -> tuple[float, float]:
    """Return the mean seconds and watt-hours per image, for one image per seed.

    Without a meter, the watt-hours are 0.
    """
    joules, start = meter.joules() if meter else 0.0, time.perf_counter()
    for seed in seeds:
        generator.generate([prompt], candidate, [seed])
    seconds = time.perf_counter() - start
    joules = (meter.joules() if meter else 0.0) - joules
    return seconds / len(seeds), joules / 3600 / len(seeds)


def measured_costs(
    generator: Generator,
    candidates: Sequence[Candidate],
    prompt: str,
    unit: str,
    meter: EnergyMeter | None,
) -> pd.DataFrame:
    """Measure the median seconds or watt-hours per image, including text encoding.

    Candidates with a cost in ``unit`` in the pool file are not measured.

    Returns:
        One row of the candidates table per measured candidate.
    """
    rows = []
    for candidate in without_cost(candidates, unit):
        cost = getattr(measure(generator, candidate, prompt, meter=meter), unit)
        rows.append({**candidate.row(), "cost": cost, "unit": unit})
    return pd.DataFrame(rows)


def recorded_costs(pool: Pool, folder: Path, entries: Sequence[ShardEntry]) -> pd.DataFrame:
    """Return the median seconds of the existing images of candidates on other computers.

    A measurement would request images that are paid for and not used. Candidates with a cost in
    seconds in the pool file are left out.

    Args:
        pool: the pool.
        folder: the folder of the shards.
        entries: the shards of the pool.

    Returns:
        One row of the candidates table per candidate.

    Raises:
        InputError: the seconds of no image of a candidate are known.
    """
    rows = []
    for candidate in without_cost(pool.candidates, "seconds"):
        if not kind_class(pool.generators[candidate.generator].kind).remote:
            continue
        shards = [entry.shard for entry in entries if entry.candidate == candidate.candidate]
        seconds = [value for shard in shards for value in read_seconds(folder, shard)]
        if not seconds:
            raise InputError(
                f"{pool.file}: the candidate {candidate.candidate!r} has no cost in 'seconds', and"
                " the seconds of no image of it are known. Add a cost in the pool file, or change"
                " cost_unit."
            )
        rows.append({**candidate.row(), "cost": float(np.median(seconds)), "unit": "seconds"})
    return pd.DataFrame(rows)


def without_cost(candidates: Sequence[Candidate], unit: str) -> list[Candidate]:
    """Return the candidates without a cost in ``unit`` in the pool file."""
    return [c for c in candidates if c.unit != unit or c.cost is None]
