"""The estimated size of a generate stage: images, TFLOPs, hours and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catimage.pool.spec import Pool

BYTES_PER_PIXEL = 1.6
"""Approximate size of a photograph as PNG, in bytes per pixel. Rendered scenes need half of it."""
DEFAULT_PROMPTS = 1_000
"""The number of prompts in an estimate when the prompts of a source cannot be counted."""


@dataclass(frozen=True)
class GenerationSize:
    """The work of the generate stage for one prompt, with all candidates and seeds.

    Attributes:
        images: the number of images.
        tflops: the TFLOPs of all images of the candidates whose TFLOPs are known.
        bytes: the size of the images on disk, in bytes.
        candidates: the number of candidates.
        counted: the number of candidates whose TFLOPs are known.
    """

    images: int
    tflops: float
    bytes: float
    candidates: int
    counted: int


def size_per_prompt(
    pool: Pool, rows: Sequence[Mapping[str, Any]], seeds: list[int]
) -> GenerationSize:
    """Return the generation size of one prompt.

    Args:
        pool: the pool.
        rows: one row per candidate with ``cost`` (None if the cost is not known) and ``unit``.
        seeds: the seeds of each prompt and candidate.
    """
    tflops = [row["cost"] for row in rows if row["unit"] == "tflops" and row["cost"] is not None]
    pixels = sum(
        pool.generators[c.generator].with_settings_of(c).size ** 2 for c in pool.candidates
    )
    return GenerationSize(
        images=len(rows) * len(seeds),
        tflops=float(sum(tflops)) * len(seeds),
        bytes=BYTES_PER_PIXEL * pixels * len(seeds),
        candidates=len(rows),
        counted=len(tflops),
    )


def estimate(size: GenerationSize, prompts: int | None, tflops_per_second: float) -> str:
    """Return the generation size of all prompts as text.

    Args:
        size: the generation size of one prompt.
        prompts: the number of prompts; None for :data:`DEFAULT_PROMPTS`.
        tflops_per_second: the speed of the machine, in TFLOPs per second.
    """
    n = DEFAULT_PROMPTS if prompts is None else prompts
    uncounted = size.candidates - size.counted
    note = f" (without {uncounted} candidates whose TFLOPs are not known)" if uncounted else ""
    tflops = n * size.tflops
    return (
        f"for {n:,} prompts: {n * size.images:,} images, {tflops:,.4g} TFLOPs{note},"
        f" {_duration(tflops / tflops_per_second)} at {tflops_per_second:g} TFLOP/s, about"
        f" {_bytes(n * size.bytes)}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.3g} hours" if seconds >= 360 else f"{seconds / 60:,.2g} minutes"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:,.3g} {unit}"
    return f"{count / 1e6:,.3g} MB"
