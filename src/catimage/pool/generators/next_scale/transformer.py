"""The next-scale transformer (Infinity, Han et al. 2024, section 3.3).

It predicts the bits of a scale from the text and the coarser scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one attention layer, each (n, heads, tokens, width / heads)."""


class Attention(nn.Module):
    """Multi-head attention.

    Args:
        width: channels of the queries and of the output.
        source: channels of the tokens that are attended to, of the image or of the text.
        heads: number of heads.
    """

    def __init__(self, width: int, source: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(source, 2 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)

    def keys_values(self, source: torch.Tensor) -> KeysValues:
        """Return keys and values of the tokens ``source``, (n, tokens, source channels)."""
        keys, values = self.memory(source).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(
        self, x: torch.Tensor, memory: KeysValues, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the output of the layer, (n, t, width).

        Args:
            x: tokens, (n, t, width).
            memory: keys and values of the tokens that are attended to.
            mask: booleans (t, tokens), true where a token of ``x`` attends to one of ``memory``;
                None if all attend to all.
        """
        output = F.scaled_dot_product_attention(self._split(self.query(x)), *memory, attn_mask=mask)
        return cast(torch.Tensor, self.out(output.transpose(1, 2).flatten(2)))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, x.unflatten(-1, (self.heads, -1))).transpose(1, 2)


class Layer(nn.Module):
    """A transformer layer: self-attention, cross-attention to the text, feed-forward network.

    Each of the three has a layer normalization before it and a residual connection.
    """

    def __init__(self, width: int, text_width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.own = Attention(width, width, heads)
        self.text = Attention(width, text_width, heads)
        self.feed = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )
        nn.init.zeros_(cast(nn.Linear, self.feed[2]).weight)

    def forward(
        self, x: torch.Tensor, text: KeysValues, past: KeysValues | None, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, KeysValues]:
        """Return the output, and the keys and values of ``past`` and of these tokens together.

        Args:
            x: tokens, (n, t, width).
            text: keys and values of the text.
            past: keys and values of the image tokens before ``x``; None if there are none.
            mask: booleans (t, tokens), the attention mask of the image tokens.
        """
        y = self.norms[0](x)
        memory = self.own.keys_values(y)
        if past is not None:
            memory = (
                torch.cat([past[0], memory[0]], dim=2),
                torch.cat([past[1], memory[1]], dim=2),
            )
        x = x + self.own(y, memory, mask)
        x = x + self.text(self.norms[1](x), text)
        return x + self.feed(self.norms[2](x)), memory


@dataclass(frozen=True)
class Text:
    """A batch of texts after projection by the transformer.

    Attributes:
        topic: projected mean of the hidden states, (n, 1, width).
        memories: keys and values of the cross-attention of each layer.
    """

    topic: torch.Tensor
    memories: list[KeysValues]


class NextScaleTransformer(nn.Module):
    """Predicts all bits of a scale independently (the infinite-vocabulary classifier of Infinity).

    A position attends to the text and to all positions of its own scale and of coarser scales
    (block-wise causal mask). The input of a scale is the sum of the coarser codes, averaged down to
    its side length. The input of the first scale is zeros.

    Args:
        bits: number of bits per position, d.
        scales: side lengths of the scales, ascending.
        width: number of channels.
        layers: number of layers.
        heads: number of attention heads.
        text_width: channels of the hidden states of the text.
        expansion: width of the feed-forward networks divided by ``width``.
    """

    mask: torch.Tensor

    def __init__(
        self,
        bits: int,
        scales: Sequence[int],
        width: int,
        layers: int,
        heads: int,
        text_width: int,
        expansion: int,
    ) -> None:
        super().__init__()
        self.scale = bits**0.5
        tokens = sum(side * side for side in scales)
        self.embed = nn.Linear(bits, width)
        self.topic = nn.Linear(text_width, width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.layers = nn.ModuleList(
            Layer(width, text_width, heads, expansion) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, bits)
        self.register_buffer("mask", block_mask(scales), persistent=False)

    def project_text(self, text: torch.Tensor) -> Text:
        """Project the hidden states of texts, (n, tokens, text_width), for use at all scales."""
        layers = cast(list[Layer], list(self.layers))
        return Text(
            self.topic(text.mean(1, keepdim=True)),
            [layer.text.keys_values(text) for layer in layers],
        )

    def forward(
        self, inputs: torch.Tensor, text: Text, past: list[KeysValues] | None = None
    ) -> tuple[torch.Tensor, list[KeysValues]]:
        """Return the logits of the bits of one or more scales, and the cache for the next scale.

        Args:
            inputs: inputs (n, t, bits) from :func:`tokens_of`, of all scales or of the scale after
                ``past``.
            text: the result of :meth:`project_text`.
            past: the cache that the call for the previous scale returned; None at the first scale.

        Returns:
            Logits (n, t, bits), and the keys and values of every layer for all scales so far.
        """
        first = past[0][0].shape[2] if past else 0
        positions = slice(first, first + inputs.shape[1])
        x = self.embed(self.scale * inputs) + self.positions[positions] + text.topic
        memories = []
        for i, layer in enumerate(self.layers):
            x, memory = layer(
                x,
                text.memories[i],
                past[i] if past else None,
                self.mask[positions, : positions.stop],
            )
            memories.append(memory)
        return self.head(self.norm(x)), memories


def block_mask(scales: Sequence[int]) -> torch.Tensor:
    """Return the attention mask (tokens, tokens).

    An entry is true if the scale of its column is that of its row, or a coarser one.
    """
    scale = torch.cat([torch.full((side * side,), i) for i, side in enumerate(scales)])
    return scale[:, None] >= scale[None, :]


def tokens_of(maps: torch.Tensor) -> torch.Tensor:
    """Flatten maps (n, d, s, s) to tokens (n, s * s, d), row by row."""
    return maps.flatten(2).transpose(1, 2)
