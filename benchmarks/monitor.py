"""False alarms and delays of the drift checks of ``catimage monitor``, on real prompts.

    python -m benchmarks monitor

The reference is one half of the captions of COCO; steady traffic is drawn from the other half, at
1,000 requests a day with hourly checks. After a shift, every request is drawn from PartiPrompts or
DiffusionDB. The parameters were chosen on COCO and PartiPrompts alone. The environment variable
``CATIMAGE_MINILM`` names a folder with the sentence-transformers model MiniLM; without it, only the
embedded encoder is measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.monitor_data import Traffic, shared_folder, traffic
from catimage.monitoring.prompt_drift import PromptDrift
from catimage.monitoring.streams import detect_change
from catimage.params import EncoderParams, MonitorParams

SETTINGS = MonitorParams()
PER_HOUR = 1000 / 24
THRESHOLD = np.log(SETTINGS.threshold(SETTINGS.max_requests))
DAYS, SHIFTS, TARGET_ALARMS, TARGET_DELAY = 2000, 200, 12, 200


@dataclass
class Monitor:
    """The checks ``prompts`` and ``streams`` of several independent services."""

    traffic: Traffic
    services: int
    adwin: bool = True

    def __post_init__(self) -> None:
        self.state = PromptDrift.start(self.traffic.reference.points.shape[1], self.services)
        self.values: list[list[float]] = [[] for _ in range(self.services)]
        self.auc = np.full(self.services, 0.5)

    def hour(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Process an hour; return which services raise an alarm of each check."""
        reference = self.traffic.reference
        self.state, ranks = self.state.update(reference, points, SETTINGS.prompts)
        self.auc = ranks.mean(1)
        prompts = self.state.evidence >= THRESHOLD
        fresh = self.state.restarted().detector
        self.state.detector[prompts] = fresh[prompts]
        streams = np.zeros(self.services, bool)
        for i in range(self.services if self.adwin else 0):
            new = reference.distance_ranks(points[i]).tolist()
            change = detect_change(self.values[i], new, SETTINGS.streams)
            streams[i], self.values[i] = change.detected, change.values
        return prompts, streams


def sizes(hours: int) -> Iterator[int]:
    """The number of requests of each hour."""
    ends = np.floor(np.arange(hours + 1) * PER_HOUR).astype(int)
    return (b - a for a, b in pairwise(ends))


def false_alarms(data: Traffic, rng: np.random.Generator, services: int = 40) -> tuple[int, int]:
    """Count the alarms of both checks in :data:`DAYS` days of steady traffic."""
    monitor, total = Monitor(data, services), np.zeros(2, int)
    steady = data.points["coco"]
    for n in sizes(DAYS * 24 // services):
        alarms = monitor.hour(steady[rng.integers(0, len(steady), (services, n))])
        total += [int(a.sum()) for a in alarms]
    return int(total[0]), int(total[1])


def delays(data: Traffic, name: str, rng: np.random.Generator, days: int = 2) -> np.ndarray:
    """Requests after a shift until the check that raises an alarm, for each check, (2, SHIFTS).

    The shift is at a random request of an hour; before it, there are ``days`` days of steady
    traffic. Infinite if there is no alarm within four days.
    """
    monitor, found = Monitor(data, SHIFTS), np.full((2, SHIFTS), np.inf)
    steady, shifted = data.points["coco"], data.points[name]
    for n in sizes(days * 24):
        monitor.hour(steady[rng.integers(0, len(steady), (SHIFTS, n))])
    start = rng.integers(0, n, SHIFTS)
    seen = -start
    for n in sizes(96):
        before = np.arange(n)[None] < -np.minimum(seen, 0)[:, None]
        points = shifted[rng.integers(0, len(shifted), (SHIFTS, n))]
        old = steady[rng.integers(0, len(steady), (SHIFTS, n))]
        seen = seen + n
        for check, alarms in enumerate(monitor.hour(np.where(before[..., None], old, points))):
            new = alarms & np.isinf(found[check])
            found[check, new] = seen[new]
        if np.isfinite(found[0]).all() and n * 96 / 4 < seen.min():
            break
    return found


def rows() -> Iterator[str]:
    if not shared_folder().is_dir():
        yield f"| monitor: {shared_folder()} not found; set CATIMAGE_SHARED | | | | |"
        return
    encoders = {"embedded CLIP": EncoderParams()}
    if folder := os.environ.get("CATIMAGE_MINILM"):
        encoders["MiniLM"] = EncoderParams(model=f"sentence-transformers:{folder}")
    for name, encoder in encoders.items():
        data = traffic(encoder)
        yield from _shift_rows(name, data, "partiprompts")
        alarms = false_alarms(data, np.random.default_rng(1))
        yield (
            f"| alarms in {DAYS:,} steady days, {name} | {sum(alarms)} (prompts {alarms[0]},"
            f" streams {alarms[1]}) | | | {TARGET_ALARMS} |"
        )
        yield from _shift_rows(name, data, "diffusiondb")


def _shift_rows(name: str, data: Traffic, shifted: str) -> Iterator[str]:
    found = delays(data, shifted, np.random.default_rng(2))
    target = f"95% within {TARGET_DELAY}" if shifted == "diffusiondb" else ""
    for check, values in zip(("prompts", "streams"), found, strict=True):
        yield (
            f"| COCO to {shifted}, {name}, check {check}: requests until the alarm | median"
            f" {np.median(values):.0f}, 95% {np.quantile(values, 0.95, method='higher'):.0f};"
            f" {(values <= TARGET_DELAY).mean():.1%} within {TARGET_DELAY} | | | {target} |"
        )
