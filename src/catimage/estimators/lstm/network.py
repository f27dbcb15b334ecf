"""BudgetFusion's network (section 3.3, figure 4) in torch, for training, and in numpy, for
prediction.

Weights are a dictionary of float32 arrays by torch's names, so that an estimator is saved without a
torch module.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Float32

if TYPE_CHECKING:
    import torch

Weights = dict[str, Float32]
LSTM, TANH = "lstm", "mlp_tanh"
LEARNED, SINUSOIDAL, NONE = "learned", "sinusoidal", "none"


@dataclass(frozen=True)
class Shape:
    """What decides a network's weights.

    Attributes:
        network: ``lstm``, or ``mlp_tanh`` (Table 1's ablation): each step by itself.
        encoding: of the step: ``learned``, ``sinusoidal``, or ``none`` (Table 1's ablation).
        width: of the prompts' embeddings.
        hidden: LSTM units a direction; the MLP reads both.
        layers: of the LSTM, or of the MLP with tanh in its place.
        head: units of the MLP's middle layer.
        places: the highest step and one; 0 where there is no table of them.
        series: how many there are; a single one has no vector of its own.
    """

    network: str
    encoding: str
    width: int
    hidden: int
    layers: int
    head: int
    places: int
    series: int


def sinusoids(places: int, width: int) -> Float32:
    """Sines and cosines of steps 0 to ``places`` - 1 (Vaswani et al. 2017, section 3.5): (places,
    width), values of mean square 1/2.
    """
    half = (width + 1) // 2
    angles = np.arange(places)[:, None] / 10000 ** (np.arange(half) / half)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :width].astype(np.float32)


def torch_network(shape: Shape, dropout: float) -> torch.nn.ModuleDict:
    """The parts of a network, with random weights from torch's generator."""
    from torch import nn

    parts: dict[str, Any] = {}
    if shape.encoding == LEARNED:
        parts["steps"] = nn.Embedding(shape.places, shape.width)
    if shape.series > 1:
        parts["series"] = nn.Embedding(shape.series, shape.width)
    both = 2 * shape.hidden
    if shape.network == LSTM:
        parts["lstm"] = nn.LSTM(
            shape.width, shape.hidden, shape.layers, batch_first=True, bidirectional=True
        )
    else:
        sizes = [shape.width] + [both] * shape.layers
        parts["mlp"] = nn.Sequential(
            *(layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh()))
        )
    parts["dropout"] = nn.Dropout(dropout)
    parts["head"] = nn.Sequential(nn.Linear(both, shape.head), nn.ReLU(), nn.Linear(shape.head, 1))
    return nn.ModuleDict(parts)


def torch_forward(
    net: torch.nn.ModuleDict, shape: Shape, prompts: torch.Tensor, places: torch.Tensor, series: int
) -> torch.Tensor:
    """Shares in (0, 1) at the steps ``places`` (t,) for the prompts (n, width): (n, t)."""
    import torch

    x = prompts[:, None, :].expand(-1, len(places), -1)
    if shape.encoding == LEARNED:
        x = x + net["steps"](places)
    elif shape.encoding == SINUSOIDAL:
        x = x + torch.from_numpy(sinusoids(shape.places, shape.width)).to(x)[places]
    if shape.series > 1:
        x = x + net["series"](torch.tensor(series, device=x.device))
    x = net["lstm"](x)[0] if shape.network == LSTM else net["mlp"](x)
    shares: torch.Tensor = net["head"](net["dropout"](x))[:, :, 0].sigmoid()
    return shares


def forward(
    weights: Weights, shape: Shape, prompts: Float32, places: NDArray[np.int64], series: int
) -> NDArray[np.float64]:
    """As :func:`torch_forward` without dropout, in numpy.

    What the first layer makes of a prompt and of a step is added after its product, since both are
    linear: one product a prompt.
    """
    steps = np.zeros((len(places), shape.width), np.float32)
    if shape.encoding == LEARNED:
        steps = steps + weights["steps.weight"][places]
    elif shape.encoding == SINUSOIDAL:
        steps = steps + sinusoids(shape.places, shape.width)[places]
    if shape.series > 1:
        steps = steps + weights["series.weight"][series]
    x = (
        _lstm(weights, shape, prompts, steps)
        if shape.network == LSTM
        else _tanh(weights, shape, prompts, steps)
    )
    middle = np.maximum(x @ weights["head.0.weight"].T + weights["head.0.bias"], 0)
    return _sigmoid(
        (middle @ weights["head.2.weight"].T + weights["head.2.bias"])[:, :, 0].astype(np.float64)
    )


def _tanh(weights: Weights, shape: Shape, prompts: Float32, steps: Float32) -> Float32:
    x: Float32 = np.tanh(_added(prompts, steps, weights["mlp.0.weight"]) + weights["mlp.0.bias"])
    for layer in range(1, shape.layers):
        x = np.tanh(x @ weights[f"mlp.{2 * layer}.weight"].T + weights[f"mlp.{2 * layer}.bias"])
    return x


def _lstm(weights: Weights, shape: Shape, prompts: Float32, steps: Float32) -> Float32:
    x: Float32 | None = None
    for layer in range(shape.layers):
        halves = []
        for end in (f"l{layer}", f"l{layer}_reverse"):
            taken = weights[f"lstm.weight_ih_{end}"]
            inputs = _added(prompts, steps, taken) if x is None else x @ taken.T
            inputs = inputs + (weights[f"lstm.bias_ih_{end}"] + weights[f"lstm.bias_hh_{end}"])
            halves.append(
                _direction(
                    inputs, weights[f"lstm.weight_hh_{end}"], backwards=end.endswith("reverse")
                )
            )
        x = np.concatenate(halves, axis=2)
    assert x is not None
    return x


def _added(prompts: Float32, steps: Float32, weight: Float32) -> Float32:
    """What a layer makes of every prompt (n, width) with every step (t, width): (n, t, units)."""
    return (prompts @ weight.T)[:, None, :] + (steps @ weight.T)[None]


def _direction(inputs: Float32, weight: Float32, backwards: bool) -> Float32:
    """One direction of an LSTM layer: inputs (n, t, 4 hidden), torch's order of gates, to (n, t,
    hidden).
    """
    n, t, units = inputs.shape
    size = units // 4
    out = np.empty((n, t, size), np.float32)
    state, cell = np.zeros((n, size), np.float32), np.zeros((n, size), np.float32)
    for place in range(t - 1, -1, -1) if backwards else range(t):
        gates = inputs[:, place] + state @ weight.T
        opened = _sigmoid(gates)
        cell = opened[:, size : 2 * size] * cell + opened[:, :size] * np.tanh(
            gates[:, 2 * size : 3 * size]
        )
        state = out[:, place] = opened[:, 3 * size :] * np.tanh(cell)
    return out


def _sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))
