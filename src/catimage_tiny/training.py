"""The training loop of the tiny pool's larger networks: Muon and AdamW on a cosine, and a moving
average of the weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from catimage_tiny.muon import optimisers
from catimage_tiny.schedule import cosine_rate


def train(
    net: torch.nn.Module,
    loss_of: Callable[[], torch.Tensor],
    save: Callable[[Any], None],
    name: str,
    steps: int,
    rate: float,
    outer: tuple[str, ...],
    averaging: float,
    every: int,
) -> None:
    """Makes ``loss_of()`` small, and saves the averaged network every so many steps and at the end.

    Args:
        name: what the printed lines begin with.
        outer: first and last layers, which Muon is not for.
        averaging: the decay of the moving average, which begins after a twentieth of the steps.
    """
    ema: Any = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(averaging)
    )
    both = optimisers(net, rate, outer)
    start, running = time.time(), 0.0
    for step in range(steps):
        for group in (g for optimiser in both for g in optimiser.param_groups):
            group["lr"] = cosine_rate(step, steps, rate, warmup=min(100, steps // 10))
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimiser in both:
            optimiser.step()
            optimiser.zero_grad()
        if step >= steps // 20:
            ema.update_parameters(net)
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 49 or step == steps - 1:
            print(
                f"{name} {step + 1}/{steps} loss {running:.4f} {time.time() - start:.0f} s",
                flush=True,
            )
        if step % every == every - 1 or step == steps - 1:
            save(ema.module)
