"""The denoiser of the embedded pool: diffusers' ``UNet2DConditionModel`` with v-prediction.

A forward pass on one latent of 16x16x6 numbers takes 0.28 GFLOP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from catimage_tiny.autoencoder import LATENT_CHANNELS
from catimage_tiny.clip import TEXT_WIDTH
from catimage_tiny.noise import TRAIN_TIMESTEPS, NoiseSchedule
from catimage_tiny.training import LossFunction, mixed_precision

LORA_RANK = 16
"""Rank of the low-rank adapter."""
CAPTION_DROPOUT = 0.1
"""Share of captions that training replaces by the empty one, for classifier-free guidance."""


def new_denoiser() -> Any:
    """Return an untrained denoiser of 4.2 M parameters, with attention at 8x8 and 4x4 positions."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


@dataclass(frozen=True)
class Examples:
    """Training examples of a generator, all on one device.

    Attributes:
        inputs: Scaled latents, or features of the image tokenizer: fp16 (n, channels, h, w).
        text: Hidden states of the captions, fp16 (n, tokens, width).
        empty_text: Hidden states of the empty caption, fp16 (tokens, width).
    """

    inputs: torch.Tensor
    text: torch.Tensor
    empty_text: torch.Tensor

    def sample(self, size: int, caption_dropout: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a batch of examples with replacement.

        Args:
            size: Number of examples.
            caption_dropout: Probability with which the empty caption replaces a caption.

        Returns:
            The inputs (size, channels, h, w) and the hidden states (size, tokens, width), float32.
        """
        device = self.inputs.device
        rows = torch.randint(0, len(self.inputs), (size,), device=device)
        text = self.text[rows].float()
        if caption_dropout:
            dropped = torch.rand(size, 1, 1, device=device) < caption_dropout
            text = torch.where(dropped, self.empty_text.float(), text)
        return self.inputs[rows].float(), text


DenoiserLoss = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]
"""(denoiser, latents, hidden states of the captions) -> mean loss of a batch."""


def velocity_loss(schedule: NoiseSchedule) -> DenoiserLoss:
    """Return the loss function of v-prediction (Salimans and Ho 2022).

    The loss is the squared error of the predicted velocity at random timesteps.
    """

    def loss(net: Any, latents: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        time = torch.randint(0, TRAIN_TIMESTEPS, (len(latents),), device=latents.device)
        noise = torch.randn_like(latents)
        noisy = schedule.add_noise(latents, noise, time).contiguous(
            memory_format=torch.channels_last
        )
        with mixed_precision(latents.device):
            velocity = net(noisy, time, text).sample
        return F.mse_loss(velocity.float(), schedule.velocity(latents, noise, time))

    return loss


def loss_on_batches(
    loss: DenoiserLoss, net: Any, examples: Examples, batch_size: int, caption_dropout: float = 0.0
) -> LossFunction:
    """Return a loss function that draws a batch of examples and computes the loss of a denoiser.

    Args:
        loss: The loss of a denoiser on a batch.
        net: The denoiser.
        examples: The training examples.
        batch_size: Number of examples per batch.
        caption_dropout: Probability with which the empty caption replaces a caption.
    """
    return lambda: loss(net, *examples.sample(batch_size, caption_dropout))


def add_lora(net: Any, rank: int = LORA_RANK) -> Any:
    """Freeze a denoiser, add a trainable low-rank adapter (LoRA, Hu et al. 2021), and return it."""
    from peft import LoraConfig

    net.requires_grad_(False)
    targets = rf".*\.({'|'.join(_ADAPTED_LAYERS)})"
    net.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
    return net


_ADAPTED_LAYERS = (
    "conv1",
    "conv2",
    "conv_shortcut",
    r"samplers\.0\.conv",
    "proj_in",
    "proj_out",
    "to_q",
    "to_k",
    "to_v",
    r"to_out\.0",
    r"ff\.net\.0\.proj",
    r"ff\.net\.2",
)
"""Regular expressions for the names of the layers that the adapter changes."""


def save_lora(net: Any, folder: Path) -> None:
    """Write the adapter of a denoiser in fp16, in the format of diffusers' LoRA weights."""
    from diffusers import StableDiffusionPipeline
    from peft import get_peft_model_state_dict

    layers = {
        name: weight.half().contiguous().cpu()
        for name, weight in get_peft_model_state_dict(net).items()
    }
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
