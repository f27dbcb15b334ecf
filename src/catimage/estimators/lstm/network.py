"""The LSTM network (BudgetFusion paper, section 3.3 and figure 4), implemented in torch for
training and in NumPy for prediction.

Weights are stored as float32 arrays by the parameter names of torch, so that a saved estimator
contains no torch module.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Float32, Floats, Ints

if TYPE_CHECKING:
    import torch

Weights = dict[str, Float32]
"""Arrays by the parameter names of torch."""
LSTM, MLP_TANH = "lstm", "mlp_tanh"
LEARNED, SINUSOIDAL, NO_ENCODING = "learned", "sinusoidal", "none"


@dataclass(frozen=True)
class Architecture:
    """The settings that determine the shapes of a network's weights.

    Attributes:
        network: ``lstm``, or ``mlp_tanh``, an MLP applied to each number of steps separately (an
            ablation in table 1 of the paper).
        step_encoding: encoding of the number of steps: ``learned``, ``sinusoidal``, or ``none`` (an
            ablation in table 1 of the paper).
        width: width of the prompt embeddings.
        hidden_size: LSTM units per direction; ``mlp_tanh`` has twice as many units per layer.
        num_layers: number of layers of the LSTM or of ``mlp_tanh``.
        head_size: units of the hidden layer of the output MLP, which follows the LSTM or
            ``mlp_tanh``.
        n_encodings: number of step encodings, which is the largest number of steps plus one; 0
            without encoding.
        n_series: number of series of candidates (:mod:`~catimage.estimators.lstm.series`); if it is
            greater than 1, a learned vector per series is added to the input.
    """

    network: str
    step_encoding: str
    width: int
    hidden_size: int
    num_layers: int
    head_size: int
    n_encodings: int
    n_series: int


def sinusoidal_encoding(n_encodings: int, width: int) -> Float32:
    """Return sinusoidal encodings of the numbers 0 to ``n_encodings`` - 1 (Vaswani et al. 2017,
    section 3.5): (n_encodings, width).
    """
    half = (width + 1) // 2
    angles = np.arange(n_encodings)[:, None] / 10000 ** (np.arange(half) / half)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :width].astype(np.float32)


def torch_network(architecture: Architecture, dropout: float) -> torch.nn.ModuleDict:
    """Return the modules of a network with random weights from torch's global generator.

    Args:
        architecture: the architecture of the network.
        dropout: dropout probability of the output of the LSTM or ``mlp_tanh``.
    """
    from torch import nn

    a = architecture
    modules: dict[str, Any] = {}
    if a.step_encoding == LEARNED:
        modules["steps"] = nn.Embedding(a.n_encodings, a.width)
    if a.n_series > 1:
        modules["series"] = nn.Embedding(a.n_series, a.width)
    if a.network == LSTM:
        modules["lstm"] = nn.LSTM(
            a.width, a.hidden_size, a.num_layers, batch_first=True, bidirectional=True
        )
    else:
        sizes = [a.width] + [2 * a.hidden_size] * a.num_layers
        modules["mlp"] = nn.Sequential(
            *(layer for n, m in pairwise(sizes) for layer in (nn.Linear(n, m), nn.Tanh()))
        )
    modules["dropout"] = nn.Dropout(dropout)
    modules["head"] = nn.Sequential(
        nn.Linear(2 * a.hidden_size, a.head_size), nn.ReLU(), nn.Linear(a.head_size, 1)
    )
    return nn.ModuleDict(modules)


def torch_forward(
    net: torch.nn.ModuleDict,
    architecture: Architecture,
    prompts: torch.Tensor,
    steps: torch.Tensor,
    series: int,
) -> torch.Tensor:
    """Return the predicted scores in (0, 1) of one series, (n, t) (BudgetFusion paper, equation 6).

    Args:
        net: a network returned by :func:`torch_network`.
        architecture: the architecture of ``net``.
        prompts: embeddings of the prompts (n, width).
        steps: numbers of steps (t,).
        series: index of the series.
    """
    import torch

    x = prompts[:, None, :].expand(-1, len(steps), -1)
    if architecture.step_encoding == LEARNED:
        x = x + net["steps"](steps)
    elif architecture.step_encoding == SINUSOIDAL:
        table = sinusoidal_encoding(architecture.n_encodings, architecture.width)
        x = x + torch.from_numpy(table).to(x)[steps]
    if architecture.n_series > 1:
        x = x + net["series"](torch.tensor(series, device=x.device))
    x = net["lstm"](x)[0] if architecture.network == LSTM else net["mlp"](x)
    scores: torch.Tensor = net["head"](net["dropout"](x))[:, :, 0].sigmoid()
    return scores


def forward(
    weights: Weights, architecture: Architecture, prompts: Float32, steps: Ints, series: int
) -> Floats:
    """Return the same scores as :func:`torch_forward` without dropout, computed by NumPy, (n, t).

    The first layer is linear in the sum of prompt embedding and step encoding. Therefore its
    products with the embeddings and with the encodings are computed separately and then added.

    Args:
        weights: the weights by torch's parameter names.
        architecture: the architecture of the network.
        prompts: embeddings of the prompts (n, width).
        steps: numbers of steps (t,).
        series: index of the series.
    """
    encodings = np.zeros((len(steps), architecture.width), np.float32)
    if architecture.step_encoding == LEARNED:
        encodings = encodings + weights["steps.weight"][steps]
    elif architecture.step_encoding == SINUSOIDAL:
        table = sinusoidal_encoding(architecture.n_encodings, architecture.width)
        encodings = encodings + table[steps]
    if architecture.n_series > 1:
        encodings = encodings + weights["series.weight"][series]
    body = _lstm if architecture.network == LSTM else _mlp_tanh
    x = body(weights, architecture.num_layers, prompts, encodings)
    activations = np.maximum(x @ weights["head.0.weight"].T + weights["head.0.bias"], 0)
    logits = (activations @ weights["head.2.weight"].T + weights["head.2.bias"])[:, :, 0]
    return _sigmoid(logits.astype(np.float64))


def _mlp_tanh(weights: Weights, num_layers: int, prompts: Float32, encodings: Float32) -> Float32:
    """Return the output of the layers with tanh activations, (n, t, 2 * hidden_size)."""
    first = _project_sums(prompts, encodings, weights["mlp.0.weight"])
    x: Float32 = np.tanh(first + weights["mlp.0.bias"])
    for layer in range(1, num_layers):
        x = np.tanh(x @ weights[f"mlp.{2 * layer}.weight"].T + weights[f"mlp.{2 * layer}.bias"])
    return x


def _lstm(weights: Weights, num_layers: int, prompts: Float32, encodings: Float32) -> Float32:
    """Return the output of the bidirectional LSTM, (n, t, 2 * hidden_size)."""
    x: Float32 | None = None
    for layer in range(num_layers):
        directions = []
        for suffix in (f"l{layer}", f"l{layer}_reverse"):
            weight = weights[f"lstm.weight_ih_{suffix}"]
            inputs = _project_sums(prompts, encodings, weight) if x is None else x @ weight.T
            bias = weights[f"lstm.bias_ih_{suffix}"] + weights[f"lstm.bias_hh_{suffix}"]
            directions.append(
                _lstm_direction(
                    inputs + bias,
                    weights[f"lstm.weight_hh_{suffix}"],
                    backwards=suffix.endswith("reverse"),
                )
            )
        x = np.concatenate(directions, axis=2)
    assert x is not None
    return x


def _project_sums(prompts: Float32, encodings: Float32, weight: Float32) -> Float32:
    """Return the product of ``weight`` with the sum of every prompt (n, width) and every encoding
    (t, width): (n, t, units).
    """
    return (prompts @ weight.T)[:, None, :] + (encodings @ weight.T)[None]


def _lstm_direction(inputs: Float32, weight: Float32, backwards: bool) -> Float32:
    """Return the hidden states (n, t, hidden_size) of one direction of an LSTM layer.

    Args:
        inputs: projected inputs plus biases (n, t, 4 * hidden_size), with the gates in torch's
            order: input, forget, cell, output.
        weight: recurrent weights (4 * hidden_size, hidden_size).
        backwards: whether to process the steps in descending order.
    """
    n, t, units = inputs.shape
    size = units // 4
    states = np.empty((n, t, size), np.float32)
    state, cell = np.zeros((n, size), np.float32), np.zeros((n, size), np.float32)
    for position in range(t - 1, -1, -1) if backwards else range(t):
        gates = inputs[:, position] + state @ weight.T
        activations = _sigmoid(gates)
        input_gate, forget_gate = activations[:, :size], activations[:, size : 2 * size]
        cell = forget_gate * cell + input_gate * np.tanh(gates[:, 2 * size : 3 * size])
        state = states[:, position] = activations[:, 3 * size :] * np.tanh(cell)
    return states


def _sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))
