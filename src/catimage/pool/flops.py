"""Counts the floating-point operations of a model while it runs.

On torch's meta device, tensors have shapes and no values, so the model needs no weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from catimage.pool.kind import Convention

PROJECTIONS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.convolution)
"""The operations that the CATImage and BudgetFusion papers count: the products of activations with
weights.
"""


def tflops(run: Callable[..., Any], *inputs: Any, convention: Convention = "full") -> float:
    """Return the TFLOPs of one call. A multiply-add is two operations.

    Args:
        run: the function or module.
        inputs: the arguments of ``run``.
        convention: ``full`` counts all matrix products and convolutions; ``paper`` omits the
            products of activations with each other (attention).
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run(*inputs)
    counts: dict[Any, int] = counter.get_flop_counts()["Global"]
    counted = [
        count
        for operation, count in counts.items()
        if convention == "full" or operation in PROJECTIONS
    ]
    return sum(counted) / 1e12
