"""Conversion of trained parts to the weights of the embedded pool, in the formats of generators."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from catimage.pool.generators.next_scale.model import NextScaleModel
from catimage_tiny.build import Build
from catimage_tiny.next_scale import ARCHITECTURE, save_next_scale
from catimage_tiny.noise import SCHEDULER_CONFIG
from catimage_tiny.recipe import write_recipe
from catimage_tiny.text_encoder import text_encoder_from


def assemble(build: Build, out: Path) -> None:
    """Write the weights of the embedded pool and ``recipe.json``, and replace existing ones.

    The weights are in these subfolders of ``out``:

    - ``sd``: the Stable Diffusion pipeline of tiny-sd, in diffusers' folder format;
    - ``clip``: the CLIP model, in the folder format of open_clip (``local-dir:``);
    - ``lightning`` and ``turbo``: the distilled denoisers of tiny-lightning and tiny-turbo;
    - ``patterns``: the low-rank adapter (LoRA) of tiny-patterns;
    - ``next_scale``: transformer and decoder of tiny-infinity.

    The denoisers and the autoencoder are stored in fp16. The text encoder of the pipeline is stored
    in fp32, because transformers loads a model in the stored precision, and generators run in fp32.

    Args:
        build: A build folder with all trained parts.
        out: The folder to write.
    """
    from diffusers import UNet2DConditionModel

    for name in ("sd", "clip", "lightning", "turbo", "patterns", "next_scale"):
        shutil.rmtree(out / name, ignore_errors=True)
    _save_pipeline(build.folder, out / "sd")
    for name in ("lightning", "turbo"):
        net = UNet2DConditionModel.from_pretrained(build.folder / name, torch_dtype=torch.float16)
        net.save_pretrained(out / name)
    for folder in (out / "sd" / "unet", out / "sd" / "vae", out / "lightning", out / "turbo"):
        _remove_source_path(folder / "config.json")
    for name in ("clip", "patterns"):
        shutil.copytree(build.folder / name, out / name)
    transformer = NextScaleModel(ARCHITECTURE).transformer
    transformer.load_state_dict(build.load_state("transformer"))
    save_next_scale(build.image_tokenizer(), transformer, out / "next_scale")
    write_recipe(out / "recipe.json", build.recipe, build.records(), _device_name(build.device))


def _save_pipeline(build_folder: Path, out: Path) -> None:
    """Write a Stable Diffusion pipeline of the trained autoencoder, denoiser and text encoder."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )

    text_encoder, tokenizer = text_encoder_from(build_folder / "clip")
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(build_folder / "vae", torch_dtype=torch.float16),
        unet=UNet2DConditionModel.from_pretrained(build_folder / "unet", torch_dtype=torch.float16),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=EulerDiscreteScheduler.from_config(SCHEDULER_CONFIG),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out, safe_serialization=True)


def _remove_source_path(config: Path) -> None:
    """Remove the path of the build folder, which diffusers writes into a configuration file."""
    entries = json.loads(config.read_text())
    entries.pop("_name_or_path", None)
    config.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
