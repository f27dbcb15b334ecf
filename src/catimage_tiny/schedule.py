"""The learning-rate schedule that all models of the tiny pool are trained with."""

from __future__ import annotations

import math


def cosine_rate(
    step: int, steps: int, peak: float, warmup: int = 100, floor: float = 0.02
) -> float:
    """Linear warm-up to ``peak``, then a half cosine down to ``floor * peak``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
