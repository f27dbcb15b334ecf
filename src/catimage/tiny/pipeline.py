"""Puts the trained parts together as a Stable Diffusion pipeline in diffusers' folder format."""

from __future__ import annotations

import shutil
from pathlib import Path

from catimage.tiny.denoiser import NOISE, text_encoder_from


def assemble(build: Path, out: Path) -> None:
    """Writes ``out/sd`` (what ``StableDiffusionPipeline.from_pretrained`` loads) and ``out/clip`` (open_clip's local-dir).

    Args:
        build: the training's folder, with ``vae``, ``unet`` and ``clip``. Weights of the denoiser and the autoencoder are stored in fp16;
            the text encoder's are not, since transformers would load it in fp16 beside a denoiser in fp32.
    """
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel

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
    shutil.rmtree(out / "sd", ignore_errors=True)
    for part in (pipeline.unet, pipeline.vae):
        part.to(dtype=torch.float16)
    pipeline.save_pretrained(out / "sd", safe_serialization=True)
    shutil.rmtree(out / "clip", ignore_errors=True)
    shutil.copytree(build / "clip", out / "clip")
