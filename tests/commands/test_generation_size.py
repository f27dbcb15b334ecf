import pytest

from catimage.commands.generation_size import (
    BYTES_PER_PIXEL,
    GenerationSize,
    estimate,
    size_per_prompt,
)
from catimage.pool.loading import load_pool


def test_size_counts_candidates_and_seeds():
    pool = load_pool("tiny-steps")
    rows = [{"cost": 2.0, "unit": "tflops"} for _ in pool.candidates]
    size = size_per_prompt(pool, rows, [0, 1, 2])
    n = len(pool.candidates)
    assert (size.images, size.tflops, size.candidates, size.counted) == (3 * n, 6.0 * n, n, n)
    assert size.bytes == pytest.approx(3 * n * 64 * 64 * BYTES_PER_PIXEL)


def test_uncounted_candidates_are_excluded_and_reported():
    pool = load_pool("tiny-steps")
    rows = [
        {"cost": 2.0, "unit": "tflops"},
        {"cost": None, "unit": "tflops"},
        {"cost": 0.04, "unit": "usd"},
    ]
    size = size_per_prompt(pool, rows, [0])
    assert (size.tflops, size.counted) == (2.0, 1)
    assert "(without 2 candidates whose TFLOPs are not known)" in estimate(size, 10, 1.0)


def test_estimate_is_formatted_with_units():
    assert (
        estimate(GenerationSize(80, 3600.0, 1e6, 20, 20), 100, 10.0)
        == "for 100 prompts: 8,000 images, 3.6e+05 TFLOPs, 10 hours at 10 TFLOP/s, about 100 MB"
    )
    assert estimate(GenerationSize(1, 0.1, 1e9, 1, 1), None, 10.0).startswith(
        "for 1,000 prompts: 1,000 images, 100 TFLOPs, 0.17 minutes"
    )
