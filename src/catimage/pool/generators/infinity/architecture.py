"""Infinity-2B's transformer as far as its cost goes: every layer with weights and every product of
attention, no norms or activations.

The sizes are those of the authors' configuration of their 2B model (Han et al. 2024, section 4.1
and Table 2; their released code).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

EDGES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)
"""The scales of a square image: tokens along an edge, 16 pixels each at the last."""
SCALES = {256: 7, 512: 10, 1024: 13}
"""Image size in pixels: how many of the scales are taken."""
WIDTH, HEADS, DEPTH, BITS = 2048, 16, 32, 32
TEXT_WIDTH, TEXT_CONTEXT = 2048, 512
"""Flan-T5-XL's width, and the length that prompts are padded to for it."""


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    heads = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (query, key, value))
    out: torch.Tensor = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    return out


class Block(nn.Module):
    """Self-attention over this scale and those before it, cross-attention to the text, and a
    feed-forward network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        self.query, self.text = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.text_out, self.text_norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.biases = nn.Parameter(
            torch.empty(3 * WIDTH)
        )  # of queries and values; of the text's values
        self.modulation, self.sharpness = (
            nn.Parameter(torch.empty(6 * WIDTH)),
            nn.Parameter(torch.empty(HEADS)),
        )

    def forward(
        self, x: torch.Tensor, text: torch.Tensor, past: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``x`` (1, tokens of the scale, width); returns it with the keys and values so far (1,
        tokens so far, 2 width).
        """
        query, new = self.qkv(x).split((WIDTH, 2 * WIDTH), -1)
        past = torch.cat((past, new), 1)
        x = x + self.out(_attend(query, *past.chunk(2, -1)))
        x = x + self.text_out(_attend(self.query(x), *self.text(text).chunk(2, -1)))
        return x + self.narrow(self.wide(x)), past


class Transformer(nn.Module):
    """All scales of one image from one prompt, without guidance; keys and values are cached from
    scale to scale.
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
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.head_modulation, self.head = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, 2 * BITS)

    def forward(self, text: torch.Tensor, edges: tuple[int, ...]) -> torch.Tensor:
        """``text`` (1, tokens, text width) and the edges of the scales; returns the last scale's
        logits (1, edge squared, 2 x bits).
        """
        pooled = self.pool_out(_attend(self.pool_query, *self.pool(text).chunk(2, -1)))
        self.modulation(pooled)
        text, x, logits = self.text(text), pooled, torch.empty(0)
        past = [text.new_empty(1, 0, 2 * WIDTH)] * len(self.blocks)
        for edge in edges:
            x = pooled if edge == 1 else self.bits(text.new_empty(1, edge**2, BITS))
            for i, block in enumerate(self.blocks):
                x, past[i] = block(x, text, past[i])
            self.head_modulation(pooled)
            logits = self.head(x)
        return logits
