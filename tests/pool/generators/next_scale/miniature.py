"""A miniature next-scale model and its text encoder, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from catimage.pool.generators.next_scale.model import NextScaleArchitecture, NextScaleModel
from catimage.pool.generators.next_scale.spec import NextScaleSpec
from catimage.pool.generators.next_scale.weights import save_model
from tests.miniature import save_clip_folder

SHAPE = NextScaleArchitecture(
    bits=5,
    scales=(1, 2, 4),
    width=24,
    layers=2,
    heads=3,
    expansion=2,
    text_width=128,
    decoder_widths=(16, 8, 8),
)


def random_model(seed: int = 0, shape: NextScaleArchitecture = SHAPE) -> NextScaleModel:
    """Return a model without zero weights, so that every part affects the output."""
    torch.manual_seed(seed)
    model = NextScaleModel(shape).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def save_generator(folder: Path) -> Path:
    """Save a model in ``folder/bits``, and a text encoder and its tokenizer in ``folder/sd``."""
    from catimage_tiny.text_encoder import text_encoder_from

    torch.manual_seed(1)
    text_encoder, tokenizer = text_encoder_from(save_clip_folder(folder / "clip"))
    text_encoder.save_pretrained(folder / "sd" / "text_encoder")
    tokenizer.save_pretrained(folder / "sd" / "tokenizer")
    save_model(random_model(), folder / "bits")
    return folder


def spec_of(**settings: Any) -> NextScaleSpec:
    """Return the entry of the generator in a pool file."""
    return NextScaleSpec.model_validate(
        {"kind": "next-scale", "weights": "bits", "text": "sd", "size": 32, **settings}
    )
