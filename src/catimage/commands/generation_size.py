"""What generating a workspace's images takes: how many they are, and their TFLOPs, hours and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catimage.pool.pool import Pool

BYTES_A_PIXEL = 1.6
"""Of a photograph as PNG, about; images of scenes take half of it."""


@dataclass(frozen=True)
class Size:
    """Of one prompt with all candidates and seeds; ``tflops`` are of the ``counted`` candidates
    alone, of ``candidates`` in all.
    """

    images: int
    tflops: float
    bytes: float
    candidates: int
    counted: int


def size_of(pool: Pool, rows: Sequence[Mapping[str, Any]], seeds: list[int]) -> Size:
    """What a prompt takes; ``rows`` have the ``cost`` and ``unit`` of every candidate (None where
    it cannot be counted).
    """
    tflops = [row["cost"] for row in rows if row["unit"] == "tflops" and row["cost"] is not None]
    pixels = sum(pool.generators[c.generator].settled(c).size ** 2 for c in pool.candidates)
    return Size(
        len(rows) * len(seeds),
        float(sum(tflops)) * len(seeds),
        BYTES_A_PIXEL * pixels * len(seeds),
        len(rows),
        len(tflops),
    )


def estimate(size: Size, prompts: int | None, rate: float) -> str:
    """In words, for ``prompts`` (1,000 where they are not known) on a machine that does ``rate``
    TFLOPs a second.
    """
    n, whose = (1_000, "1,000 prompts") if prompts is None else (prompts, f"{prompts:,} prompts")
    hosted = size.candidates - size.counted
    without = f" (without {hosted} candidates whose TFLOPs are not known)" if hosted else ""
    compute = (
        f"{n * size.tflops:,.4g} TFLOPs{without}, {_time(n * size.tflops / rate)} at {rate:g}"
        " TFLOP/s"
    )
    return f"for {whose}: {n * size.images:,} images, {compute}, about {_bytes(n * size.bytes)}"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:,.3g} hours" if seconds >= 360 else f"{seconds / 60:,.2g} minutes"


def _bytes(count: float) -> str:
    return (
        f"{count / 1e12:,.3g} TB"
        if count >= 1e12
        else f"{count / 1e9:,.3g} GB"
        if count >= 1e9
        else f"{count / 1e6:,.3g} MB"
    )
