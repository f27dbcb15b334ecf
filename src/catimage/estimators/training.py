"""The one training loop of the networks that predict labels: AdamW's or another's steps, early
stopping, the best epoch kept.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

CROSS_ENTROPY, SQUARED = "cross_entropy", "squared"
FEW = 10
"""Prompts up to which none is held out of training to stop it by."""


@dataclass(frozen=True)
class Schedule:
    """How long to train, and on what.

    Attributes:
        batch: prompts a step, about.
        epochs: at most.
        patience: epochs without a lower loss on the held-out prompts before training stops.
        validation_fraction: of the prompts that are held out.
    """

    batch: int
    epochs: int
    patience: int
    validation_fraction: float


def train(
    net: Any,
    optimiser: Any,
    loss: Callable[[NDArray[np.int64]], Any],
    n: int,
    schedule: Schedule,
    rng: np.random.Generator,
) -> float:
    """Trains ``net`` in place, and leaves it as it was in the epoch of the least loss on held-out
    prompts, which is returned.

    Args:
        loss: of the prompts in some rows (of ``n``), by ``net``.
    """
    import torch

    order = rng.permutation(n)
    held = order[: max(1, int(schedule.validation_fraction * n))] if n > FEW else order
    used = order[len(held) :] if n > FEW else order
    best, least, waited = deepcopy(net.state_dict()), np.inf, 0
    for _ in range(schedule.epochs):
        net.train()
        for rows in np.array_split(rng.permutation(used), max(1, len(used) // schedule.batch)):
            optimiser.zero_grad()
            loss(rows).backward()
            optimiser.step()
        net.eval()
        with torch.no_grad():
            parts = np.array_split(held, max(1, len(held) // _HELD_AT_ONCE))
            now = sum(float(loss(rows)) * len(rows) for rows in parts) / len(held)
        best, least, waited = (
            (deepcopy(net.state_dict()), now, 0) if now < least else (best, least, waited + 1)
        )
        if waited >= schedule.patience:
            break
    net.load_state_dict(best)
    return float(least)


_HELD_AT_ONCE = 512


def label_loss(
    logits: torch.Tensor, target: NDArray[np.floating], kind: str = CROSS_ENTROPY
) -> torch.Tensor:
    """Sum over the heads, mean over the prompts, of the loss of each label that is there.

    Args:
        logits: (n, n_candidates); their sigmoid is the prediction.
        target: (n, n_candidates) in [0, 1], NaN where there is no label.
        kind: ``cross_entropy`` (CATImage 5.1) or ``squared``.
    """
    import torch

    wanted = torch.from_numpy(target.astype(np.float32)).to(logits.device)
    there = ~wanted.isnan()
    wanted = wanted.nan_to_num()
    if kind == SQUARED:
        each = (logits.sigmoid() - wanted) ** 2
    else:
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, wanted, reduction="none"
        )
    return torch.where(there, each, 0.0).sum(1).mean()


def scaled(y: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
    """Labels in [0, 1] by one minimum and maximum over all candidates, and these two.

    Scaling each candidate by itself would break equation 3, which compares candidates.
    """
    low, high = float(np.nanmin(y)), float(np.nanmax(y))
    return (y - low) / max(high - low, 1e-12), low, high
