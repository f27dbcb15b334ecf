"""The parts of the embedded pool, one training function per part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from catimage.pool.generators.next_scale.model import NextScaleModel
from catimage_tiny.autoencoder import autoencoder_loss, new_autoencoder, save_autoencoder
from catimage_tiny.build import Build
from catimage_tiny.clip import clamp_logit_scale, contrastive_loss, new_clip, save_clip
from catimage_tiny.denoiser import (
    DROP_CAPTION,
    batched,
    new_denoiser,
    save_lora,
    velocity_loss,
    with_lora,
)
from catimage_tiny.distillation import guided_velocity, one_step_loss, progressive_loss
from catimage_tiny.next_scale import SHAPE, ImageTokenizer, bit_loss, tokenizer_loss
from catimage_tiny.noise import noise_path
from catimage_tiny.recipe import TrainingRecord
from catimage_tiny.tokenizer import CONTEXT, train_tokenizer
from catimage_tiny.training import fit

LIGHTNING_STEPS = 4


def train_clip(build: Build) -> TrainingRecord:
    """Train the CLIP and its tokenizer on all scenes."""
    from transformers import CLIPTokenizer

    folder, settings = build.folder / "clip", build.settings("clip")
    train_tokenizer(folder, captions=build.recipe.vocabulary_captions)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    names = [scene_set.name for scene_set in build.recipe.scene_sets]
    token_ids = tokenizer(
        build.captions(*names),
        padding="max_length",
        max_length=CONTEXT,
        truncation=True,
        return_tensors="pt",
    ).input_ids.to(build.device)
    model = new_clip(len(tokenizer)).to(build.device)
    loss = contrastive_loss(model, build.images(*names), token_ids, settings.batch_size)
    record = fit(model, loss, settings, "clip", partial(clamp_logit_scale, model))
    save_clip(model, len(tokenizer), folder)
    return record


def train_autoencoder(build: Build) -> TrainingRecord:
    """Train the autoencoder on scenes of all kinds and on ordinary ones."""
    settings, images = build.settings("vae"), build.images("scenes", "ordinary")
    vae = new_autoencoder().to(build.device, memory_format=torch.channels_last)
    record = fit(vae, autoencoder_loss(vae, images, settings.batch_size), settings, "vae")
    save_autoencoder(vae.eval(), images, build.folder / "vae")
    return record


def train_denoiser(build: Build) -> TrainingRecord:
    """Train the denoiser of tiny-sd on ordinary scenes."""
    net = new_denoiser().to(build.device, memory_format=torch.channels_last)
    return _train_unet(build, "unet", net, velocity_loss(noise_path(build.device)), DROP_CAPTION)


def train_lightning(build: Build) -> TrainingRecord:
    """Distill the guided denoiser to four steps without guidance."""
    path, examples = noise_path(build.device), build.examples("ordinary")
    teacher = build.denoiser("unet").requires_grad_(False)
    velocity = guided_velocity(teacher, examples.empty, build.recipe.guidance)
    loss = progressive_loss(path, velocity, LIGHTNING_STEPS)
    return _train_unet(build, "lightning", build.denoiser("unet"), loss)


def train_turbo(build: Build) -> TrainingRecord:
    """Distill tiny-lightning to one step."""
    path, examples = noise_path(build.device), build.examples("ordinary")
    teacher = build.denoiser("lightning").requires_grad_(False)
    velocity = guided_velocity(teacher, examples.empty, guidance=1)
    loss = one_step_loss(path, velocity, LIGHTNING_STEPS)
    return _train_unet(build, "turbo", build.denoiser("lightning"), loss)


def _train_unet(
    build: Build, part: str, net: Any, loss: Any, caption_dropout: float = 0.0
) -> TrainingRecord:
    settings = build.settings(part)
    batch_loss = batched(
        loss, net, build.examples("ordinary"), settings.batch_size, caption_dropout
    )
    record = fit(net, batch_loss, settings, part)
    net.save_pretrained(build.folder / part)
    return record


def train_patterns(build: Build) -> TrainingRecord:
    """Train a low-rank adapter of the denoiser on patterned scenes."""
    settings, examples = build.settings("patterns"), build.examples("patterned")
    net = with_lora(build.denoiser("unet")).to(build.device)
    loss = velocity_loss(noise_path(build.device))
    batch_loss = batched(loss, net, examples, settings.batch_size, DROP_CAPTION)
    record = fit(net, batch_loss, settings, "patterns")
    save_lora(net, build.folder / "patterns")
    return record


def train_image_tokenizer(build: Build) -> TrainingRecord:
    """Train the image tokenizer of tiny-infinity."""
    settings, images = build.settings("tokenizer"), build.images("scenes", "ordinary")
    model: Any = ImageTokenizer()
    model.to(build.device, memory_format=torch.channels_last)
    loss = partial(tokenizer_loss, model, images, settings.batch_size)
    record = fit(model, loss, settings, "tokenizer")
    build.save_state("tokenizer", model)
    return record


def train_transformer(build: Build) -> TrainingRecord:
    """Train the transformer of tiny-infinity on the image tokenizer's bits."""
    settings, examples = build.settings("transformer"), build.features("ordinary")
    model = NextScaleModel(SHAPE).transformer.to(build.device)

    def loss() -> torch.Tensor:
        features, text = examples.sample(settings.batch_size, DROP_CAPTION)
        return bit_loss(model, features, text, SHAPE.scales)

    record = fit(model, loss, settings, "transformer")
    build.save_state("transformer", model)
    return record


TRAINERS: dict[str, Callable[[Build], TrainingRecord]] = {
    "clip": train_clip,
    "vae": train_autoencoder,
    "unet": train_denoiser,
    "lightning": train_lightning,
    "turbo": train_turbo,
    "patterns": train_patterns,
    "tokenizer": train_image_tokenizer,
    "transformer": train_transformer,
}
"""The training function of each part, in the order of training."""
