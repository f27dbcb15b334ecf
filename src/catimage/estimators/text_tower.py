"""The network of a fine-tuned text encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_AT_ONCE = 64
_ALIKE = 8
"""Prompts that pass the tower together, sorted by their length, since they are padded to the
longest of them.
"""


class Tower(torch.nn.Module):
    """An encoder's tower, its pooled embedding standardised, dropout, and a linear head.

    Args:
        encoder: has ``tower``, a module, and ``pooled``, from prompts to embeddings.
        heads: candidates.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, encoder: Any, heads: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder  # no module itself
        self.tower = encoder.tower.requires_grad_(True)
        with torch.no_grad():
            width = encoder.pooled(["a"]).shape[1]
        self.head = torch.nn.Sequential(torch.nn.Dropout(dropout), torch.nn.Linear(width, heads))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def start(self, prompts: list[str], target: NDArray[np.float64]) -> None:
        """Standardises what the tower says of these prompts, and sets the head to the mean of their
        ``target`` (n, heads), NaN left out.
        """
        self.eval()
        pooled = torch.cat(
            [self._pooled(prompts[i : i + _AT_ONCE]) for i in range(0, len(prompts), _AT_ONCE)]
        )
        self.mean.copy_(pooled.mean(0))
        self.scale.copy_(pooled.std(0, correction=0).clamp_min(1e-6))
        mean = torch.from_numpy(np.nanmean(target, axis=0).clip(1e-3, 1 - 1e-3))
        linear: Any = self.head[1]
        linear.weight.zero_()
        linear.bias.copy_(torch.logit(mean))

    def forward(self, prompts: list[str]) -> torch.Tensor:
        """Logits (n, heads)."""
        logits: torch.Tensor = self.head((self._pooled(prompts) - self.mean) / self.scale)
        return logits

    def _pooled(self, prompts: list[str]) -> torch.Tensor:
        """Embeddings (n, width) in the order of the prompts."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        parts = [
            self.encoder.pooled([prompts[i] for i in order[k : k + _ALIKE]])
            for k in range(0, len(order), _ALIKE)
        ]
        return torch.cat(parts)[torch.tensor(order).argsort()]
