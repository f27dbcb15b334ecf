"""Benchmarks of stage label and of the metrics sharpness and L-SNR.

The time of the stage with several metrics is compared with its time with the slowest metric alone,
its memory for 4,000 images with that for 1,000, and the two metrics with scipy's Gaussian filter.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.measure import Row, peak_gigabytes, seconds
from catimage.commands import import_images
from catimage.metrics.registry import get_metric
from catimage.params import load_params
from catimage.scenes.grammar import sample_scene
from catimage.scenes.render import render
from catimage.stages import label
from catimage.workspace import Workspace

METRICS = ["clip_score", "clip_similarity", "l_snr", "sharpness", "ssim"]
LUMA = np.array([0.299, 0.587, 0.114]) / 255
"""The weights of ITU-R 601 for 8-bit colours."""


def _workspace(root: Path, scenes: int) -> Workspace:
    """Import rendered scenes as images of two candidates; the second is the reference of both."""
    rng, rows = np.random.default_rng(0), []
    root.mkdir()
    for i in range(scenes):
        scene = sample_scene(rng)
        for candidate in ("one", "two"):
            Image.fromarray(render(scene, rng)).save(root / f"{i}-{candidate}.png")
            rows.append((f"{scene.caption()} {i}", candidate, 0, f"{i}-{candidate}.png"))
    pd.DataFrame(rows, columns=["prompt", "candidate", "seed", "path"]).to_csv(
        root / "images.csv", index=False
    )
    settings = [
        "metric=clip_score",
        "import.metric_reference={one: two, two: two}",
        "generate.shard_images=256",
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        import_images.run(Workspace(root / "workspace"), root / "images.csv", None, settings)
    return Workspace(root / "workspace")


def _label(workspace: Workspace, metrics: list[str]) -> float:
    """Run the stage without cached scores; return the seconds, model loading included."""
    params = load_params(workspace.params)
    label_params = params.label.model_copy(update={"metrics": metrics})
    for cached in workspace.scores.with_name(".labels").glob("*"):
        cached.unlink()
    start = time.perf_counter()
    label.run(workspace, params.model_copy(update={"label": label_params}))
    return time.perf_counter() - start


def _sharpness_and_l_snr() -> list[Row]:
    """Measure sharpness and L-SNR of a batch, compared with a loop over scipy's filter."""
    table = []
    for size, count in ((64, 256), (512, 8)):
        images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        scipy_speed = count / seconds(partial(_scipy_sharpness, images), 3)
        for name in ("sharpness", "l_snr"):
            score = partial(get_metric(name).score, images, ["x"] * count)
            speed = count / seconds(score, 3)
            table.append(
                Row(
                    f"{name}, {size} x {size} pixels",
                    f"{speed:.0f} images/s",
                    f"{scipy_speed:.0f} (scipy, one image at a time)",
                    f"{speed / scipy_speed:.1f}x",
                    "5x",
                )
            )
    return table


def _scipy_sharpness(images: np.ndarray) -> list[float]:
    luma = [image @ LUMA for image in images]
    return [float(np.square(g - gaussian_filter(g, 1.0)).sum() / np.square(g).sum()) for g in luma]


def rows() -> list[Row]:
    """Measure the time for 1,000 images, then the memory for 4,000, then the two metrics."""
    with tempfile.TemporaryDirectory() as folder:
        small = _workspace(Path(folder) / "small", 500)
        large = _workspace(Path(folder) / "large", 2000)
        _label(small, METRICS)  # a warm-up that imports the libraries
        alone = {name: _label(small, [name]) for name in METRICS}
        together = _label(small, METRICS)
        before = peak_gigabytes()
        _label(large, METRICS)
        growth = peak_gigabytes() - before
    slowest = max(alone, key=alone.__getitem__)
    return [
        Row(
            f"label, {len(METRICS)} metrics, 1,000 images",
            f"{together:.2f} s",
            f"{alone[slowest]:.2f} s ({slowest} alone)",
            f"{together / alone[slowest]:.2f}x",
            "1.5x its time",
        ),
        Row(
            "label, memory for 4,000 images after 1,000",
            f"{growth * 1000:+.0f} MB",
            f"{before:.2f} GB at 1,000",
            "",
            "no growth",
        ),
        *_sharpness_and_l_snr(),
    ]


if __name__ == "__main__":
    for row in rows():
        print(row)
