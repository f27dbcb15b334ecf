"""Training functions of the parts of the embedded pool.

A part is one of the models of :data:`catimage_tiny.recipe.PARTS`, and a scene set is one of
:data:`catimage_tiny.recipe.SCENE_SETS`.
"""

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
    CAPTION_DROPOUT,
    DenoiserLoss,
    add_lora,
    loss_on_batches,
    new_denoiser,
    save_lora,
    velocity_loss,
)
from catimage_tiny.distillation import guided_velocity, one_step_loss, progressive_loss
from catimage_tiny.next_scale import ARCHITECTURE, ImageTokenizer, bit_loss, image_tokenizer_loss
from catimage_tiny.noise import noise_schedule
from catimage_tiny.recipe import ALL_SCENES, ORDINARY, PATTERNED, TrainingRecord
from catimage_tiny.text_tokenizer import CONTEXT_LENGTH, train_text_tokenizer
from catimage_tiny.training import fit

LIGHTNING_STEPS = 4
"""Number of denoising steps of tiny-lightning."""
AUTOENCODER_SCENES = (ALL_SCENES, ORDINARY)
"""The scene sets that the autoencoder and the image tokenizer are trained on."""


def train_clip(build: Build) -> TrainingRecord:
    """Train the CLIP model and its text tokenizer on all scene sets."""
    from transformers import CLIPTokenizer

    folder, settings = build.folder / "clip", build.settings("clip")
    train_text_tokenizer(folder, captions=build.recipe.vocabulary_captions)
    text_tokenizer = CLIPTokenizer.from_pretrained(folder)
    names = [scene_set.name for scene_set in build.recipe.scene_sets]
    token_ids = text_tokenizer(
        build.captions(*names),
        padding="max_length",
        max_length=CONTEXT_LENGTH,
        truncation=True,
        return_tensors="pt",
    ).input_ids.to(build.device)
    model = new_clip(len(text_tokenizer)).to(build.device)
    loss = contrastive_loss(model, build.images(*names), token_ids, settings.batch_size)
    record = fit(model, loss, settings, "clip", partial(clamp_logit_scale, model))
    save_clip(model, len(text_tokenizer), folder)
    return record


def train_autoencoder(build: Build) -> TrainingRecord:
    """Train the autoencoder on :data:`AUTOENCODER_SCENES`."""
    settings, images = build.settings("vae"), build.images(*AUTOENCODER_SCENES)
    vae = new_autoencoder().to(build.device, memory_format=torch.channels_last)
    record = fit(vae, autoencoder_loss(vae, images, settings.batch_size), settings, "vae")
    save_autoencoder(vae.eval(), images, build.folder / "vae")
    return record


def train_denoiser(build: Build) -> TrainingRecord:
    """Train the denoiser of tiny-sd on the scene set ``ordinary``."""
    net = new_denoiser().to(build.device, memory_format=torch.channels_last)
    return _train_unet(
        build, "unet", net, velocity_loss(noise_schedule(build.device)), CAPTION_DROPOUT
    )


def train_lightning(build: Build) -> TrainingRecord:
    """Distill the denoiser of tiny-sd to four steps, and its guidance into the weights."""
    schedule, examples = noise_schedule(build.device), build.examples(ORDINARY)
    teacher = build.denoiser("unet").requires_grad_(False)
    velocity = guided_velocity(teacher, examples.empty_text, build.recipe.guidance)
    loss = progressive_loss(schedule, velocity, LIGHTNING_STEPS)
    return _train_unet(build, "lightning", build.denoiser("unet"), loss)


def train_turbo(build: Build) -> TrainingRecord:
    """Distill the denoiser of tiny-lightning to one step."""
    schedule, examples = noise_schedule(build.device), build.examples(ORDINARY)
    teacher = build.denoiser("lightning").requires_grad_(False)
    velocity = guided_velocity(teacher, examples.empty_text, guidance=1)
    loss = one_step_loss(schedule, velocity, LIGHTNING_STEPS)
    return _train_unet(build, "turbo", build.denoiser("lightning"), loss)


def _train_unet(
    build: Build, part: str, net: Any, loss: DenoiserLoss, caption_dropout: float = 0.0
) -> TrainingRecord:
    """Train a denoiser on the scene set ``ordinary``, and write it into the build folder."""
    settings = build.settings(part)
    loss_function = loss_on_batches(
        loss, net, build.examples(ORDINARY), settings.batch_size, caption_dropout
    )
    record = fit(net, loss_function, settings, part)
    net.save_pretrained(build.folder / part)
    return record


def train_patterns(build: Build) -> TrainingRecord:
    """Train a low-rank adapter of the denoiser on the scene set ``patterned``."""
    settings, examples = build.settings("patterns"), build.examples(PATTERNED)
    net = add_lora(build.denoiser("unet")).to(build.device)
    loss = velocity_loss(noise_schedule(build.device))
    loss_function = loss_on_batches(loss, net, examples, settings.batch_size, CAPTION_DROPOUT)
    record = fit(net, loss_function, settings, "patterns")
    save_lora(net, build.folder / "patterns")
    return record


def train_image_tokenizer(build: Build) -> TrainingRecord:
    """Train the image tokenizer of tiny-infinity on :data:`AUTOENCODER_SCENES`."""
    settings, images = build.settings("image_tokenizer"), build.images(*AUTOENCODER_SCENES)
    model: Any = ImageTokenizer()
    model.to(build.device, memory_format=torch.channels_last)
    loss = partial(image_tokenizer_loss, model, images, settings.batch_size)
    record = fit(model, loss, settings, "image_tokenizer")
    build.save_state("image_tokenizer", model)
    return record


def train_transformer(build: Build) -> TrainingRecord:
    """Train the transformer of tiny-infinity on the scene set ``ordinary``."""
    settings, examples = build.settings("transformer"), build.features(ORDINARY)
    model = NextScaleModel(ARCHITECTURE).transformer.to(build.device)

    def loss() -> torch.Tensor:
        features, text = examples.sample(settings.batch_size, CAPTION_DROPOUT)
        return bit_loss(model, features, text, ARCHITECTURE.scales)

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
    "image_tokenizer": train_image_tokenizer,
    "transformer": train_transformer,
}
"""The training function of each part, in the order of training."""
