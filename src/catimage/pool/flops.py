"""Floating-point operations of a model, counted while it runs (on torch's meta device: without
numbers and without weights).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from catimage.pool.kind import Convention

PROJECTIONS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.convolution)
"""What the papers' convention counts: products of activations with weights."""


def tflops(run: Callable[..., Any], *inputs: Any, convention: Convention = "full") -> float:
    """TFLOPs of one call; a multiply-add is two. ``paper`` leaves out the products of activations
    with each other, those of attention.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run(*inputs)
    counts: dict[Any, int] = counter.get_flop_counts()["Global"]
    return (
        sum(
            n for operation, n in counts.items() if convention == "full" or operation in PROJECTIONS
        )
        / 1e12
    )
