"""What an image takes on this device: seconds by the clock and, where NVML counts it, watt-hours of
the GPUs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from catimage.pool.kind import Generator
from catimage.pool.spec import Candidate

PROMPT = "two small red rings and a large blue square on a grey background"
"""The prompt that is drawn, where there is none at hand."""
REPEATS = 5
_WINDOW = 0.5
"""Seconds of work behind one reading of the energy counter, which moves some ten times a second."""


@dataclass(frozen=True)
class Measured:
    """Medians over the repeats, and the distances between their quartiles; watt-hours are None
    where nothing counts them.
    """

    seconds: float
    seconds_iqr: float
    wh: float | None
    wh_iqr: float | None


class EnergyMeter:
    """The energy counters of all GPUs that torch sees (``CUDA_VISIBLE_DEVICES`` chooses them),
    which NVML reads.

    They count the whole cards since the driver was loaded: what idles is in it, and nothing is
    subtracted; CPU, memory and the power supply's losses are not.
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
        self.joules()

    def joules(self) -> float:
        """The sum of the counters."""
        return sum(self._read(card) for card in self._cards) / 1000


def energy_meter(device: str) -> EnergyMeter | None:
    """A meter for work on ``device`` (torch's name, or ``auto``); None where that is no GPU, or
    NVML or the card has no counter.
    """
    from catimage.common.devices import device_of

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
) -> Measured:
    """One image at a time, text encoding included, as a request waits for it; after a warm-up,
    ``repeats`` times with other seeds.

    With a meter, a repeat is as many images as take half a second, and their mean.
    """
    _mean(generator, candidate, prompt, 0, 1, meter)
    once = _mean(generator, candidate, prompt, 0, 1, meter)[0]
    images = max(1, math.ceil(_WINDOW / once)) if meter else 1
    made = np.array(
        [_mean(generator, candidate, prompt, repeat, images, meter) for repeat in range(repeats)]
    )
    low, middle, high = np.percentile(made, (25, 50, 75), axis=0)
    wh = (float(middle[1]), float(high[1] - low[1])) if meter else (None, None)
    return Measured(float(middle[0]), float(high[0] - low[0]), *wh)


def _mean(
    generator: Generator,
    candidate: Candidate,
    prompt: str,
    seed: int,
    images: int,
    meter: EnergyMeter | None,
) -> tuple[float, float]:
    """Mean seconds and watt-hours of an image (0 without a meter)."""
    joules, start = meter.joules() if meter else 0.0, time.perf_counter()
    for i in range(images):
        generator.generate([prompt], candidate, [seed * images + i])
    seconds = time.perf_counter() - start
    return seconds / images, ((meter.joules() if meter else 0.0) - joules) / 3600 / images
