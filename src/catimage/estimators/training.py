"""The training loop and the loss function that several neural estimators share."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints

if TYPE_CHECKING:
    import torch

CROSS_ENTROPY, SQUARED_ERROR = "cross_entropy", "squared_error"
_MIN_PROMPTS = 10
"""Up to this number of prompts, all prompts are used both for training and for validation."""
_VALIDATION_BATCH_SIZE = 512


@dataclass(frozen=True)
class TrainingLoopSettings:
    """Settings of mini-batch training with early stopping, named as in scikit-learn's MLPRegressor.

    Attributes:
        batch_size: approximate number of prompts per update.
        max_iter: maximum number of epochs.
        n_iter_no_change: number of epochs without a lower validation loss before training stops.
        validation_fraction: fraction of the prompts that are held out to compute that loss.
    """

    batch_size: int
    max_iter: int
    n_iter_no_change: int
    validation_fraction: float


class TrainingResult(NamedTuple):
    """The outcome of :func:`train`.

    Attributes:
        validation_loss: loss of the best epoch on the held-out prompts; infinite if no epoch was
            run.
        n_iter: number of epochs run.
    """

    validation_loss: float
    n_iter: int


def train(
    net: Any,
    optimizer: Any,
    loss: Callable[[Ints], Any],
    n_prompts: int,
    settings: TrainingLoopSettings,
    rng: np.random.Generator,
) -> TrainingResult:
    """Train a torch module in place and restore the weights with the lowest validation loss.

    Args:
        net: the module.
        optimizer: a torch optimizer of the parameters of ``net``.
        loss: a function from the indices of prompts to the mean loss of ``net`` on them, a tensor.
        n_prompts: number of prompts.
        settings: batch size and early stopping.
        rng: random generator that draws the validation prompts and the batches.

    Returns:
        The validation loss of the restored weights, and the number of epochs.
    """
    order = rng.permutation(n_prompts)
    n_validation = max(1, int(settings.validation_fraction * n_prompts))
    validation, training = order[:n_validation], order[n_validation:]
    if n_prompts <= _MIN_PROMPTS:
        validation = training = order
    best, lowest, n_iter, no_change = deepcopy(net.state_dict()), np.inf, 0, 0
    while n_iter < settings.max_iter and no_change < settings.n_iter_no_change:
        net.train()
        n_batches = max(1, len(training) // settings.batch_size)
        for rows in np.array_split(rng.permutation(training), n_batches):
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()
        validation_loss = _validation_loss(net, loss, validation)
        n_iter, no_change = n_iter + 1, no_change + 1
        if validation_loss < lowest:
            best, lowest, no_change = deepcopy(net.state_dict()), validation_loss, 0
    net.load_state_dict(best)
    return TrainingResult(float(lowest), n_iter)


def _validation_loss(net: Any, loss: Callable[[Ints], Any], rows: Ints) -> float:
    import torch

    net.eval()
    batches = np.array_split(rows, max(1, len(rows) // _VALIDATION_BATCH_SIZE))
    with torch.no_grad():
        return sum(float(loss(minibatch)) * len(minibatch) for minibatch in batches) / len(rows)


def label_loss(
    logits: torch.Tensor, target: NDArray[np.floating], loss: str = CROSS_ENTROPY
) -> torch.Tensor:
    """Return the loss summed over the candidates and averaged over the prompts (CATImage paper,
    section 5.1); missing labels do not contribute.

    Args:
        logits: (n_prompts, n_candidates); the predictions are their sigmoids.
        target: labels (n_prompts, n_candidates) in [0, 1], NaN if missing.
        loss: ``cross_entropy``, the loss of the paper, or ``squared_error``.
    """
    import torch

    labels = torch.from_numpy(target.astype(np.float32)).to(logits.device)
    present = ~labels.isnan()
    labels = labels.nan_to_num()
    if loss == SQUARED_ERROR:
        losses = (logits.sigmoid() - labels) ** 2
    else:
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, labels, reduction="none"
        )
    return torch.where(present, losses, 0.0).sum(1).mean()


def scale_labels(y: Floats) -> tuple[Floats, float, float]:
    """Return labels scaled to [0, 1], and their minimum and maximum before scaling (CATImage paper,
    section 5.1).

    All candidates share one minimum and one maximum, because the routing decision (equation 3 of
    the paper) compares the predictions of different candidates.

    Args:
        y: labels (n_prompts, n_candidates), NaN if missing.
    """
    low, high = float(np.nanmin(y)), float(np.nanmax(y))
    return (y - low) / max(high - low, 1e-12), low, high
