"""The layers of Infinity-2B's transformer that determine its cost.

The transformer of this module has all layers with weights and all attention products, but no
activation functions and no normalizations without weights, so it can only be used for counting. The
sizes are those of the authors' 2B configuration (Han et al. 2024, section 4.1 and Table 2, and the
published code).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SIDES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)
"""Side length of each scale in tokens. At the last scale of an image, a token is 16x16 pixels."""
SCALES = {256: 7, 512: 10, 1024: 13}
"""Number of scales by image size in pixels."""
WIDTH, HEADS, DEPTH, BITS = 2048, 16, 32, 32
"""Channels, attention heads and blocks of the transformer, and bits per token."""
TEXT_WIDTH, TEXT_CONTEXT = 2048, 512
"""Number of channels of Flan-T5-XL, and the number of tokens to which prompts are padded."""


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Compute multi-head attention of tensors of shape (1, tokens, width)."""
    heads = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (query, key, value))
    out: torch.Tensor = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    return out


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the text, and a feed-forward network."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        self.query, self.text = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.text_out, self.text_norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        # Biases of the queries, of the values, and of the values of the text.
        self.biases = nn.Parameter(torch.empty(3 * WIDTH))
        self.modulation, self.sharpness = (
            nn.Parameter(torch.empty(6 * WIDTH)),
            nn.Parameter(torch.empty(HEADS)),
        )

    def forward(
        self, x: torch.Tensor, text: torch.Tensor, past: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output of a scale, and the keys and values of all scales so far.

        Args:
            x: tokens of one scale, (1, t, width).
            text: projected text, (1, text tokens, width).
            past: keys and values of all previous scales, (1, tokens, 2 width).

        Returns:
            Tensors of shape (1, t, width) and (1, tokens + t, 2 width).
        """
        query, new = self.qkv(x).split((WIDTH, 2 * WIDTH), -1)
        past = torch.cat((past, new), 1)
        x = x + self.out(_attend(query, *past.chunk(2, -1)))
        x = x + self.text_out(_attend(self.query(x), *self.text(text).chunk(2, -1)))
        return x + self.narrow(self.wide(x)), past


class Transformer(nn.Module):
    """One pass on all scales of an image, with cached keys and values.

    Args:
        depth: number of blocks.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__()
        self.empty_text, self.text_scale = (
            nn.Parameter(torch.empty(TEXT_CONTEXT, TEXT_WIDTH)),
            nn.Parameter(torch.empty(TEXT_WIDTH)),
        )
        self.pool_query, self.pool_bias = (
            nn.Parameter(torch.empty(1, 1, WIDTH)),
            nn.Parameter(torch.empty(WIDTH)),
        )
        self.pool, self.pool_out = (
            nn.Linear(TEXT_WIDTH, 2 * WIDTH, bias=False),
            nn.Linear(WIDTH, WIDTH),
        )
        self.text = nn.Sequential(nn.Linear(TEXT_WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))
        self.start, self.levels = nn.Parameter(torch.empty(WIDTH)), nn.Embedding(15, WIDTH)
        self.bits, self.modulation = nn.Linear(BITS, WIDTH), nn.Linear(WIDTH, 6 * WIDTH)
        self.blocks = nn.ModuleList(TransformerBlock() for _ in range(depth))
        self.head_modulation, self.head = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, 2 * BITS)

    def forward(self, text: torch.Tensor, sides: tuple[int, ...]) -> torch.Tensor:
        """Return the logits of the last scale, (1, side squared, 2 x bits).

        Args:
            text: hidden states of the prompt, (1, tokens, text width).
            sides: side length of each scale in tokens.
        """
        pooled = self.pool_out(_attend(self.pool_query, *self.pool(text).chunk(2, -1)))
        self.modulation(pooled)
        text, x, logits = self.text(text), pooled, torch.empty(0)
        past = [text.new_empty(1, 0, 2 * WIDTH)] * len(self.blocks)
        for side in sides:
            x = pooled if side == 1 else self.bits(text.new_empty(1, side**2, BITS))
            for i, block in enumerate(self.blocks):
                x, past[i] = block(x, text, past[i])
            self.head_modulation(pooled)
            logits = self.head(x)
        return logits
