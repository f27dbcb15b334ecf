"""The training loop of all parts: AdamW, gradient clipping, and a moving average of the weights.

On a CUDA device, one update is recorded as a CUDA graph and replayed, because the networks are so
small that launching their kernels one by one takes longer than running them. A loss function must
therefore create all its tensors on the device, including random numbers, and must not copy values
to the CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from catimage_tiny.recipe import PartSettings, TrainingRecord

WARM_UP_UPDATES = 200
"""Number of updates of the linear warm-up of the learning rate; at most half of all updates."""
FINAL_SHARE = 0.01
"""The learning rate of the last update, as a share of the peak learning rate."""
PRINT_EVERY = 100
"""Number of updates between two printed lines."""

LossFunction = Callable[[], torch.Tensor]
"""Function that draws a batch of training examples and returns the mean loss."""


def cosine_learning_rate(update: int, updates: int, peak: float) -> float:
    """Return the learning rate of an update: a linear warm-up and a cosine decay.

    Args:
        update: Index of the update, from 0.
        updates: Number of updates.
        peak: The largest learning rate of the schedule without warm-up.
    """
    warm_up = min(1.0, (update + 1) / min(WARM_UP_UPDATES, max(1, updates // 2)))
    cosine = 0.5 * (1 + math.cos(math.pi * update / updates))
    return peak * warm_up * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context manager for autocast to bfloat16 on CUDA; on other devices, it does nothing.

    The cache of converted weights is off, because a CUDA graph cannot use it.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)


class Update:
    """Optimizer updates of a network, with a moving average of its weights.

    Args:
        net: The network, on its device.
        loss_function: Draws a batch and returns its loss.
        settings: Weight decay and betas of the optimizer.
        after_update: Called after each optimizer step.

    Attributes:
        parameters: The trained parameters of the network.
        device: The device of the parameters.
        learning_rate: Learning rate of the next update: a 0-dimensional tensor on the device,
            initially 0. The caller sets it before each update.
        decay: Decay of the moving average of the weights, in the same format.
        loss: Exponential moving average of the loss, a 0-dimensional tensor on the device.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        loss_function: LossFunction,
        settings: PartSettings,
        after_update: Callable[[], None] | None = None,
    ) -> None:
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.learning_rate, self.decay, self.loss = (
            torch.zeros((), device=self.device) for _ in range(3)
        )
        self._averages = [p.detach().clone() for p in self.parameters]
        self._loss_function, self._after_update = loss_function, after_update
        self._optimizer = self._adamw(settings)

    def _adamw(self, settings: PartSettings) -> torch.optim.AdamW:
        matrices = [p for p in self.parameters if p.ndim >= 2]
        vectors = [p for p in self.parameters if p.ndim < 2]
        groups = [
            {"params": params, "weight_decay": weight_decay}
            for params, weight_decay in ((matrices, settings.weight_decay), (vectors, 0.0))
            if params
        ]
        cuda = self.device.type == "cuda"
        return torch.optim.AdamW(
            groups, lr=self.learning_rate, betas=settings.betas, fused=cuda, capturable=cuda
        )

    def run(self) -> None:
        """Update the weights once, and their averages."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss_function()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self._optimizer.step()
        if self._after_update:
            self._after_update()
        with torch.no_grad():
            for average, parameter in zip(self._averages, self.parameters, strict=True):
                average.lerp_(parameter, 1 - self.decay)
            self.loss.lerp_(loss.detach().float(), (1 - self.decay).clamp(min=0.02))

    def compiled(self) -> Callable[[], object]:
        """Return a function that runs one update; on CUDA, it replays a recorded CUDA graph.

        The recording requires a few updates. They have the initial learning rate of 0, so that
        they do not change the weights.
        """
        if self.device.type != "cuda":
            return self.run
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(4):
                self.run()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.run()
        return graph.replay

    @torch.no_grad()
    def apply_averages(self) -> None:
        """Replace the weights of the network by their moving averages."""
        for parameter, average in zip(self.parameters, self._averages, strict=True):
            parameter.copy_(average)


def fit(
    net: torch.nn.Module,
    loss_function: LossFunction,
    settings: PartSettings,
    part: str,
    after_update: Callable[[], None] | None = None,
) -> TrainingRecord:
    """Train a network in place, and replace its weights by their moving averages.

    Args:
        net: The network, on its device. Parameters that do not require a gradient do not change.
        loss_function: Draws a batch and returns its loss.
        settings: Training settings.
        part: Name of the part, for printed lines and the record.
        after_update: Called after each optimizer step, for constraints on the weights.

    Raises:
        FloatingPointError: The loss is not finite after the last update.
    """
    update = Update(net, loss_function, settings, after_update)
    run, start = update.compiled(), time.perf_counter()
    for i in range(settings.updates):
        update.learning_rate.fill_(
            cosine_learning_rate(i, settings.updates, settings.learning_rate)
        )
        update.decay.fill_(min(settings.averaging, (1 + i) / (10 + i)))
        run()
        if i % PRINT_EVERY == PRINT_EVERY - 1 or i == settings.updates - 1:
            loss, seconds = update.loss.item(), time.perf_counter() - start
            print(f"{part} {i + 1}/{settings.updates} loss {loss:.4f} {seconds:.0f} s", flush=True)
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"{part}: the loss is {loss} after {settings.updates} updates. Reduce the learning rate"
            " of this part in catimage_tiny/recipe.py."
        )
    update.apply_averages()
    return TrainingRecord(part, settings, loss, seconds)
