"""Training of BudgetFusion's network (section 3.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from catimage.common.arrays import Float32, Floats
from catimage.common.devices import device_of
from catimage.estimators.lstm.network import Shape, Weights, torch_forward, torch_network


def train(
    x: Float32,
    targets: list[Floats],
    places: list[NDArray[np.int64]],
    shape: Shape,
    dropout: float,
    rate: float,
    batch: int,
    epochs: int,
    device: str,
    seed: int,
) -> Weights:
    """The weights after ``epochs`` over the prompts, by Adam on the squared error.

    Args:
        x: prompts (n, width), standardised.
        targets: of each series (n, t) in [0, 1], NaN where there is none.
        places: of each series (t,), the steps of its targets.
    """
    where = torch.device(device_of(device))
    forked = [where.index or 0] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=forked):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        net = torch_network(shape, dropout).to(where).train()
        optimiser = torch.optim.Adam(net.parameters(), lr=rate)
        prompts = torch.from_numpy(x).to(where)
        wanted = [torch.from_numpy(t.astype(np.float32)).to(where) for t in targets]
        steps = [torch.from_numpy(p).to(where) for p in places]
        for _ in range(epochs):
            order = rng.permutation(len(x))
            for start in range(0, len(x), batch):
                rows = torch.from_numpy(order[start : start + batch]).to(where)
                optimiser.zero_grad()
                loss = _loss(net, shape, prompts[rows], steps, [t[rows] for t in wanted])
                loss.backward()
                optimiser.step()
    return {key: value.detach().cpu().numpy().copy() for key, value in net.state_dict().items()}


def _loss(
    net: torch.nn.ModuleDict,
    shape: Shape,
    prompts: torch.Tensor,
    steps: list[torch.Tensor],
    wanted: list[torch.Tensor],
) -> Any:
    """Mean squared error over all places of all series that have a target."""
    total, count = prompts.new_zeros(()), 0
    for series, (places, target) in enumerate(zip(steps, wanted, strict=True)):
        there = ~target.isnan()
        error = torch_forward(net, shape, prompts, places, series) - target.nan_to_num()
        total = total + (error.square() * there).sum()
        count += int(there.sum())
    return total / max(count, 1)
