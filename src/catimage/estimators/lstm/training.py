"""Training of the LSTM network (BudgetFusion paper, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from catimage.common.arrays import Float32, Floats
from catimage.common.devices import device_of
from catimage.estimators.lstm.network import Architecture, Weights, torch_forward, torch_network
from catimage.estimators.lstm.series import Series


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the training of the network.

    Attributes:
        learning_rate: learning rate of Adam.
        dropout: dropout probability of the LSTM's output.
        batch_size: number of prompts per update.
        max_iter: number of epochs.
        device: torch device of the training, or ``auto``.
        seed: seed of the initial weights, the batches and dropout.
    """

    learning_rate: float
    dropout: float
    batch_size: int
    max_iter: int
    device: str
    seed: int


def train(
    x: Float32,
    targets: list[Floats],
    series: list[Series],
    architecture: Architecture,
    settings: TrainingSettings,
) -> Weights:
    """Minimise the mean squared error with Adam, and return the weights after the last epoch by
    name.

    Args:
        x: standardised embeddings of the prompts (n, width).
        targets: for each series, labels in [0, 1] at its predicted steps (n, t), NaN if missing.
        series: the series of candidates.
        architecture: the architecture of the network.
        settings: the settings of the training.
    """
    device = torch.device(device_of(settings.device))
    with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        rng = np.random.default_rng(settings.seed)
        net = torch_network(architecture, settings.dropout).to(device).train()
        optimizer = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)
        prompts = torch.from_numpy(x).to(device)
        labels = [torch.from_numpy(t.astype(np.float32)).to(device) for t in targets]
        steps = [torch.from_numpy(s.predicted_steps).to(device) for s in series]
        for _ in range(settings.max_iter):
            order = rng.permutation(len(x))
            for start in range(0, len(x), settings.batch_size):
                rows = torch.from_numpy(order[start : start + settings.batch_size]).to(device)
                optimizer.zero_grad()
                loss = _loss(net, architecture, prompts[rows], steps, [t[rows] for t in labels])
                loss.backward()
                optimizer.step()
    return {key: value.detach().cpu().numpy().copy() for key, value in net.state_dict().items()}


def _loss(
    net: torch.nn.ModuleDict,
    architecture: Architecture,
    prompts: torch.Tensor,
    steps: list[torch.Tensor],
    labels: list[torch.Tensor],
) -> torch.Tensor:
    """Return the mean squared error over the labels of all series; missing labels are ignored.

    Args:
        net: a network with the given architecture.
        architecture: the architecture of ``net``.
        prompts: embeddings of the prompts (n, width).
        steps: for each series, its predicted steps (t,).
        labels: for each series, labels in [0, 1] at its predicted steps (n, t), NaN if missing.
    """
    total, count = prompts.new_zeros(()), 0
    for i, (series_steps, target) in enumerate(zip(steps, labels, strict=True)):
        present = ~target.isnan()
        scores = torch_forward(net, architecture, prompts, series_steps, i)
        total = total + ((scores - target.nan_to_num()).square() * present).sum()
        count += int(present.sum())
    return total / max(count, 1)
