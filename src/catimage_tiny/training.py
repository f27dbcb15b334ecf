"""The training loop of every part: AdamW, gradient clipping, and a moving average of the weights.

On a CUDA device one update is recorded as a CUDA graph and replayed, because the networks are so
small that launching their kernels one by one takes longer than running them. A loss function must
therefore create its tensors, random numbers included, on the device, and never read a value back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from catimage_tiny.recipe import PartSettings, TrainingRecord

WARM_UP = 200
"""Updates of the linear warm-up."""
FLOOR = 0.01
"""The learning rate at the end, as a share of its peak."""
PRINT_EVERY = 100

LossFunction = Callable[[], torch.Tensor]
"""Draws a batch and returns its mean loss."""


def cosine_learning_rate(update: int, updates: int, peak: float) -> float:
    """Return the learning rate of an update: linear warm-up times half a cosine."""
    warm_up = min(1.0, (update + 1) / min(WARM_UP, max(1, updates // 2)))
    cosine = 0.5 * (1 + math.cos(math.pi * update / updates))
    return peak * warm_up * (FLOOR + (1 - FLOOR) * cosine)


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return an autocast context to bfloat16 on CUDA, and one that does nothing elsewhere.

    The cache of cast weights is off, since a CUDA graph cannot hold it.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)


class Update:
    """One update of a network, its optimizer state and the moving average of its weights.

    Attributes:
        learning_rate: 0-dimensional tensor on the device, to be set before each update.
        decay: Decay of the moving average; also a tensor, to be set before each update.
        loss: Exponential moving average of the loss, on the device.
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
        """Compute the loss and its gradient, and update weights and averages."""
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
        """Return a function that runs one update: on CUDA the replay of a recorded graph.

        Updates before and during the recording have a learning rate of zero, so that the weights
        stay as they are.
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
    def take_averages(self) -> None:
        """Replace the network's weights by their moving averages."""
        for parameter, average in zip(self.parameters, self._averages, strict=True):
            parameter.copy_(average)


def fit(
    net: torch.nn.Module,
    loss_function: LossFunction,
    settings: PartSettings,
    name: str,
    after_update: Callable[[], None] | None = None,
) -> TrainingRecord:
    """Train ``net`` in place, and leave it with the moving average of its weights.

    Args:
        net: On its device; parameters that require no gradient stay as they are.
        loss_function: Draws a batch and returns its loss.
        settings: Number of updates, learning rate, weight decay and averaging.
        name: The part's name, in printed lines and in the record.
        after_update: Called after each optimizer step, for constraints on the weights.

    Raises:
        FloatingPointError: The loss is not finite at the end.
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
            print(f"{name} {i + 1}/{settings.updates} loss {loss:.4f} {seconds:.0f} s", flush=True)
    if not math.isfinite(loss):
        raise FloatingPointError(f"{name}: the loss is {loss} after {settings.updates} updates.")
    update.take_averages()
    return TrainingRecord(name, settings, loss, seconds)
