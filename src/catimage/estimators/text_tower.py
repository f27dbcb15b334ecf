"""The network of the fine-tuned estimator: a text encoder with a linear head."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from catimage.common.arrays import Floats

_INITIALIZATION_BATCH = 64
_FORWARD_BATCH = 8
"""Number of prompts per forward pass. Prompts are sorted by length first, because the prompts of a
pass are padded to the longest one.
"""


class TextTowerWithHead(torch.nn.Module):
    """Network that consists of a text encoder, the standardisation of its pooled embedding,
    dropout, and a linear head.

    Args:
        encoder: the text encoder, an :class:`~catimage.encoders.open_clip.OpenClipEncoder` or a
            :class:`~catimage.encoders.sentence_transformers.SentenceTransformerEncoder`. Its module
            ``text_tower`` is trained.
        n_candidates: number of outputs.
        dropout: dropout probability of the standardised embedding.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, encoder: Any, n_candidates: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.text_tower = encoder.text_tower.requires_grad_(True)
        with torch.no_grad():
            width = encoder.differentiable_pooled(["a"]).shape[1]
        linear = torch.nn.Linear(width, n_candidates)
        self.head = torch.nn.Sequential(torch.nn.Dropout(dropout), linear)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def initialize(self, prompts: list[str], target: Floats) -> None:
        """Set the standardisation to the mean and standard deviation of the prompts' embeddings,
        and the head so that it predicts the mean labels.

        Args:
            prompts: the training prompts.
            target: labels (n_prompts, n_candidates) in [0, 1], NaN if missing.
        """
        self.eval()
        starts = range(0, len(prompts), _INITIALIZATION_BATCH)
        pooled = torch.cat([self._pooled(prompts[i : i + _INITIALIZATION_BATCH]) for i in starts])
        self.mean.copy_(pooled.mean(0))
        self.scale.copy_(pooled.std(0, correction=0).clamp_min(1e-6))
        mean_label = torch.from_numpy(np.nanmean(target, axis=0).clip(1e-3, 1 - 1e-3))
        linear: Any = self.head[1]
        linear.weight.zero_()
        linear.bias.copy_(torch.logit(mean_label))

    def forward(self, prompts: list[str]) -> torch.Tensor:
        """Return the logits (n_prompts, n_candidates)."""
        logits: torch.Tensor = self.head((self._pooled(prompts) - self.mean) / self.scale)
        return logits

    def _pooled(self, prompts: list[str]) -> torch.Tensor:
        """Return the pooled embeddings (n_prompts, width) in the order of the prompts."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        pooled = [
            self.encoder.differentiable_pooled([prompts[i] for i in order[k : k + _FORWARD_BATCH]])
            for k in range(0, len(order), _FORWARD_BATCH)
        ]
        return torch.cat(pooled)[torch.tensor(order).argsort()]
