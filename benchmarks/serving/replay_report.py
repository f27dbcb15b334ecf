"""Quality, cost and latency over time of a traffic replay: a table and a plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from benchmarks.serving.load import Load
from benchmarks.serving.services import answered_images, pixels

WINDOW = 10.0
"""Seconds of a row of the table."""


@dataclass(frozen=True)
class Replay:
    """The outcomes of a replay, in the order of the arrivals; all arrays are (n_requests,).

    Attributes:
        due: arrival times in seconds.
        seconds: time of each answer.
        late: whether the request was refused, failed, or answered after the target.
        quality: CLIPScore of the image; nan without an image.
        cost: cost of the image; nan without an image.
        statuses: numbers of requests by status.
    """

    due: np.ndarray
    seconds: np.ndarray
    late: np.ndarray
    quality: np.ndarray
    cost: np.ndarray
    statuses: dict[int, int]

    @classmethod
    def of(cls, load: Load, target: float) -> Self:
        """Score the images of a load; ``target`` is the latency target in seconds."""
        outcomes = sorted(load.outcomes, key=lambda outcome: outcome.due)
        ok = np.array([outcome.ok for outcome in outcomes])
        seconds = np.array([outcome.seconds for outcome in outcomes])
        quality, cost = np.full(len(ok), np.nan), np.full(len(ok), np.nan)
        answered = [outcome for outcome in outcomes if outcome.ok]
        images = [pixels(answered_images(outcome.answer)[0]) for outcome in answered]
        quality[ok] = clip_scores(images, [o.call.body["prompt"] for o in answered])
        cost[ok] = [outcome.answer["catimage"]["cost"] for outcome in answered]
        due = np.array([outcome.due for outcome in outcomes])
        return cls(due, seconds, ~ok | (seconds > target), quality, cost, load.statuses)

    @property
    def quality_mean(self) -> float:
        """Mean quality of the returned images."""
        return float(np.nanmean(self.quality))

    @property
    def cost_mean(self) -> float:
        """Mean cost of the returned images."""
        return float(np.nanmean(self.cost))

    def percentile(self, percent: float) -> float:
        """Return a percentile of the seconds of the answered requests."""
        return float(np.percentile(self.seconds[~np.isnan(self.cost)], percent))

    def windows(self, name: str) -> pd.DataFrame:
        """Return one row per window of :data:`WINDOW` seconds."""
        frame = pd.DataFrame(
            {
                "second": (self.due // WINDOW) * WINDOW,
                "seconds": np.where(np.isnan(self.cost), np.nan, self.seconds),
                "over_target": self.late,
                "refused": np.isnan(self.cost),
                "quality": self.quality,
                "cost": self.cost,
            }
        )
        groups = frame.groupby("second")
        return pd.DataFrame(
            {
                "service": name,
                "requests_per_second": groups.size() / WINDOW,
                "median_seconds": groups["seconds"].median(),
                "p95_seconds": groups["seconds"].quantile(0.95),
                "over_target": groups["over_target"].mean(),
                "refused": groups["refused"].mean(),
                "quality": groups["quality"].mean(),
                "cost": groups["cost"].mean(),
            }
        ).reset_index()


def clip_scores(images: list[np.ndarray], prompts: list[str]) -> np.ndarray:
    """Return CLIPScore of images by the embedded CLIP, (n,)."""
    from catimage.metrics.clip_score import ClipScore
    from catimage.metrics.metric import MetricContext

    if not images:
        return np.zeros(0)
    metric, parts = ClipScore(MetricContext()), range(0, len(images), 128)
    return np.concatenate(
        [metric.score(np.stack(images[i : i + 128]), prompts[i : i + 128]) for i in parts]
    )


def write_report(replays: dict[str, Replay], target: float, folder: Path) -> None:
    """Write ``replay.csv`` and ``replay.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.concat([replay.windows(name) for name, replay in replays.items()])
    table.to_csv(folder / "replay.csv", index=False)
    _plot(table, target, folder / "replay.png")


def _plot(table: pd.DataFrame, target: float, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        "requests_per_second": "requests per second",
        "p95_seconds": "p95 latency in seconds",
        "over_target": "share over target or refused",
        "quality": "mean CLIPScore",
        "cost": "mean cost per image",
    }
    figure, axes = pyplot.subplots(len(panels), 1, sharex=True, figsize=(7, 10))
    for axis, (column, label) in zip(axes, panels.items(), strict=True):
        for name, rows in table.groupby("service", sort=False):
            axis.plot(rows["second"], rows[column], label=name)
        axis.set_ylabel(label, fontsize=8)
        axis.grid(color="#e6e6e6")
    axes[1].axhline(target, color="#888888", linestyle="--", label="latency target")
    axes[1].legend(frameon=False, fontsize=8)
    axes[-1].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
