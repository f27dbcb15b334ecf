"""Counts the TFLOPs of Infinity-2B from its architecture, on torch's meta device.

The CATImage paper states 1.5 TFLOPs, without a resolution. No resolution has this cost in either
convention. With guidance, as in the authors' script, the projections of the transformer take 4.5
TFLOPs at 256 pixels, 19.8 at 512 pixels and 80.2 at 1024 pixels (``catimage costs --convention
paper``). Without guidance, they take half of that. The count closest to the paper is 2.25 TFLOPs,
at 256 pixels without guidance; 1.96 of these are for the tokens of the image. The router uses the
counted cost.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from catimage.pool.flops import tflops
from catimage.pool.generators.infinity.architecture import (
    BITS,
    DEPTH,
    SCALES,
    SIDES,
    TEXT_CONTEXT,
    TEXT_WIDTH,
    WIDTH,
    Transformer,
)
from catimage.pool.kind import Convention, CostTerms

PROMPT_TOKENS = 77
"""Number of text tokens in a count: the context of CLIP, to which SDXL pads every prompt."""


def count_terms(size: int, guided: bool, convention: Convention) -> CostTerms:
    """Count the cost of one image.

    Every pass runs the transformer on all scales, with cached keys and values.

    Args:
        size: width and height of the image in pixels.
        guided: whether there are two passes.
        convention: ``full`` counts the transformer including attention (once per pass), the text
            encoder on a padded prompt (once, since the embedding of the empty prompt is learned),
            and the decoder (once). ``paper`` counts only the projections of the transformer.
    """
    passes, full = (2 if guided else 1), convention == "full"
    return CostTerms(
        denoiser=passes * transformer_tflops(size, convention),
        text_encoder=_text_encoder_tflops() if full else 0.0,
        decoder=_decoder_tflops(size) if full else 0.0,
        denoiser_calls=SCALES[size],
        passes=passes,
    )


@lru_cache
def transformer_tflops(size: int, convention: Convention) -> float:
    """Return the TFLOPs of one pass on all scales.

    The count is extrapolated from models with one and two blocks.
    """
    with torch.device("meta"), torch.no_grad():
        inputs = torch.empty(1, PROMPT_TOKENS, TEXT_WIDTH), SIDES[: SCALES[size]]
        one, two = (tflops(Transformer(depth), *inputs, convention=convention) for depth in (1, 2))
    return one + (DEPTH - 1) * (two - one)


@lru_cache
def _text_encoder_tflops() -> float:
    """Return the TFLOPs of the text encoder for one padded prompt."""
    with torch.device("meta"), torch.no_grad():
        return tflops(_text_encoder(), torch.zeros(1, TEXT_CONTEXT, dtype=torch.long))


@lru_cache
def _decoder_tflops(size: int) -> float:
    """Return the TFLOPs of the decoder for one image."""
    with torch.device("meta"), torch.no_grad():
        return tflops(_autoencoder().decode, torch.empty(1, BITS, size // 16, size // 16))


def _text_encoder() -> Any:
    """Return the encoder of Flan-T5-XL."""
    from transformers import T5Config, T5EncoderModel

    shape: dict[str, Any] = {
        "d_model": TEXT_WIDTH,
        "d_kv": 64,
        "d_ff": 5120,
        "num_layers": 24,
        "num_heads": 32,
    }
    encoder: Any = T5EncoderModel(
        T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **shape)
    )
    return encoder.eval()


def _autoencoder() -> Any:
    """Return the autoencoder: that of FLUX, with five levels and 32 latent channels."""
    from diffusers import AutoencoderKL

    channels = (128, 256, 512, 512, 512)
    autoencoder: Any = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        layers_per_block=2,
        latent_channels=BITS,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return autoencoder.eval()


def memory(size: int, guided: bool) -> tuple[int, int]:
    """Return the bytes of the weights, and the bytes of the keys and values of one image.

    The transformer and the text encoder have two bytes per weight, and the autoencoder four. Keys
    and values are the largest activations.
    """
    with torch.device("meta"):
        half_precision = _parameters(Transformer()) + _parameters(_text_encoder())
        full_precision = _parameters(_autoencoder())
    tokens = sum(side**2 for side in SIDES[: SCALES[size]])
    cached_tokens = (2 if guided else 1) * tokens
    return 2 * half_precision + 4 * full_precision, 2 * cached_tokens * 2 * WIDTH * DEPTH


def _parameters(model: torch.nn.Module) -> int:
    """Return the number of parameters of a model."""
    return sum(p.numel() for p in model.parameters())
