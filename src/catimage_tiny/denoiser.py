"""The denoiser of the embedded pool: a v-prediction ``UNet2DConditionModel`` on 16x16x6 latents.

One pass takes 0.28 GFLOP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from catimage_tiny.autoencoder import CHANNELS
from catimage_tiny.clip import WIDTH
from catimage_tiny.noise import TRAIN_STEPS, NoisePath
from catimage_tiny.training import LossFunction, mixed_precision

LORA_RANK = 16
DROP_CAPTION = 0.1
"""Share of captions replaced by the empty one, for classifier-free guidance."""


def new_denoiser() -> Any:
    """Return an untrained denoiser of 4.2 M parameters, with attention at 8x8 and 4x4 only."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


@dataclass(frozen=True)
class Examples:
    """Training examples of a generator, all on one device.

    Attributes:
        inputs: fp16 (n, channels, h, w): scaled latents, or the image tokenizer's features.
        text: fp16 (n, context, width), hidden states of the captions.
        empty: (context, width), hidden states of the empty caption.
    """

    inputs: torch.Tensor
    text: torch.Tensor
    empty: torch.Tensor

    def sample(self, size: int, caption_dropout: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw ``size`` examples with replacement.

        Args:
            size: Examples in the batch.
            caption_dropout: Probability with which the empty caption replaces a caption.

        Returns:
            Inputs and hidden states, float32.
        """
        device = self.inputs.device
        rows = torch.randint(0, len(self.inputs), (size,), device=device)
        text = self.text[rows].float()
        if caption_dropout:
            dropped = torch.rand(size, 1, 1, device=device) < caption_dropout
            text = torch.where(dropped, self.empty.float(), text)
        return self.inputs[rows].float(), text


DenoiserLoss = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]
"""(network, latents, text) -> mean loss."""


def velocity_loss(path: NoisePath) -> DenoiserLoss:
    """Return the squared error of the velocity at random times (Salimans and Ho 2022)."""

    def loss(net: Any, latents: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        time = torch.randint(0, TRAIN_STEPS, (len(latents),), device=latents.device)
        noise = torch.randn_like(latents)
        noisy = path.add(latents, noise, time).contiguous(memory_format=torch.channels_last)
        with mixed_precision(latents.device):
            velocity = net(noisy, time, text).sample
        return F.mse_loss(velocity.float(), path.velocity(latents, noise, time))

    return loss


def batched(
    loss: DenoiserLoss, net: Any, examples: Examples, batch_size: int, caption_dropout: float = 0.0
) -> LossFunction:
    """Return a loss function that draws batches of ``examples`` for ``net``."""
    return lambda: loss(net, *examples.sample(batch_size, caption_dropout))


def with_lora(net: Any, rank: int = LORA_RANK) -> Any:
    """Freeze a denoiser and add a low-rank adapter (Hu et al. 2021) to its inner layers."""
    from peft import LoraConfig

    net.requires_grad_(False)
    targets = rf".*\.({'|'.join(_ADAPTED)})"
    net.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
    return net


_ADAPTED = (
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


def save_lora(net: Any, folder: Path) -> None:
    """Write the adapter in fp16, as ``StableDiffusionPipeline.load_lora_weights`` reads it."""
    from diffusers import StableDiffusionPipeline
    from peft import get_peft_model_state_dict

    layers = {
        name: weight.half().contiguous().cpu()
        for name, weight in get_peft_model_state_dict(net).items()
    }
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
