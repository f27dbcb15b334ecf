"""Puts the trained parts together: a Stable Diffusion pipeline in diffusers' folder format, and
what else the tiny pool is made of.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from catimage_tiny.denoiser import NOISE, text_encoder_from


def assemble(build: Path, out: Path) -> None:
    """Writes ``out/sd`` (what ``StableDiffusionPipeline.from_pretrained`` loads), ``out/clip``
    (open_clip's local-dir), and the distilled denoisers ``out/lightning`` and ``out/turbo``, which
    take that of ``sd``'s place, and the adapter ``out/patterns``.

    Args:
        build: the training's folder, with ``vae``, ``unet``, ``lightning``, ``turbo``, ``patterns``
            and ``clip``.

    Weights of the denoisers and the autoencoder are stored in fp16; the text encoder's are not,
    since transformers would load it in fp16 beside a denoiser in fp32.
    """
    import torch
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )

    text_encoder, tokenizer = text_encoder_from(build / "clip")
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(build / "vae"),
        unet=UNet2DConditionModel.from_pretrained(build / "unet"),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=EulerDiscreteScheduler.from_config(NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipeline.unet, pipeline.vae):
        part.to(dtype=torch.float16)
    for name in ("sd", "clip", "lightning", "turbo", "patterns"):
        shutil.rmtree(out / name, ignore_errors=True)
    pipeline.save_pretrained(out / "sd", safe_serialization=True)
    for name in ("lightning", "turbo"):
        UNet2DConditionModel.from_pretrained(build / name).to(dtype=torch.float16).save_pretrained(
            out / name
        )
    for name in ("clip", "patterns"):
        shutil.copytree(build / name, out / name, ignore=shutil.ignore_patterns(".done"))
