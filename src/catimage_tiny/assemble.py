"""Copies trained parts into a pool's folder of weights, in the formats that generators load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from catimage.pool.generators.next_scale.model import NextScaleModel
from catimage_tiny.build import Build
from catimage_tiny.next_scale import SHAPE, save_next_scale
from catimage_tiny.noise import NOISE
from catimage_tiny.recipe import write_recipe
from catimage_tiny.text_encoder import text_encoder_from


def assemble(build: Build, out: Path) -> None:
    """Write the embedded pool's weights and ``recipe.json`` to ``out``, and replace older ones.

    - ``sd``: a Stable Diffusion pipeline in diffusers' folder format;
    - ``clip``: an open_clip ``local-dir:``;
    - ``lightning`` and ``turbo``: distilled denoisers;
    - ``patterns``: a low-rank adapter;
    - ``next_scale``: the next-scale generator.

    Denoisers and autoencoder are stored in fp16. The pipeline's text encoder is stored in fp32,
    because transformers keeps the stored precision, and generators run in fp32.
    """
    from diffusers import UNet2DConditionModel

    for name in ("sd", "clip", "lightning", "turbo", "patterns", "next_scale"):
        shutil.rmtree(out / name, ignore_errors=True)
    _save_pipeline(build.folder, out / "sd")
    for name in ("lightning", "turbo"):
        net = UNet2DConditionModel.from_pretrained(build.folder / name, torch_dtype=torch.float16)
        net.save_pretrained(out / name)
    for config in (out / "sd" / "unet", out / "sd" / "vae", out / "lightning", out / "turbo"):
        _remove_source_path(config / "config.json")
    for name in ("clip", "patterns"):
        shutil.copytree(build.folder / name, out / name)
    transformer = NextScaleModel(SHAPE).transformer
    transformer.load_state_dict(build.load_state("transformer"))
    save_next_scale(build.image_tokenizer(), transformer, out / "next_scale")
    write_recipe(out / "recipe.json", build.recipe, build.records(), _device_name(build.device))


def _save_pipeline(parts: Path, folder: Path) -> None:
    """Write the Stable Diffusion pipeline of the trained autoencoder, denoiser and text encoder."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )

    text_encoder, tokenizer = text_encoder_from(parts / "clip")
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(parts / "vae", torch_dtype=torch.float16),
        unet=UNet2DConditionModel.from_pretrained(parts / "unet", torch_dtype=torch.float16),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=EulerDiscreteScheduler.from_config(NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


def _remove_source_path(config: Path) -> None:
    """Remove the path of the build folder, which diffusers adds to a configuration."""
    entries = json.loads(config.read_text())
    entries.pop("_name_or_path", None)
    config.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
