"""The denoiser of the tiny pool: a v-prediction ``UNet2DConditionModel`` of 0.28 GFLOP on 16x16x6
latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from catimage_tiny.autoencoder import CHANNELS, pixels_to_tensor
from catimage_tiny.clip import WIDTH
from catimage_tiny.tokenizer import CONTEXT
from catimage_tiny.training import train

NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
}
"""Zero terminal SNR, so that the first step sees pure noise and a plain wall can have any mean
colour. The cosine schedule, since a latent of 16x16 loses its content to less noise than Stable
Diffusion's of 64x64.
"""

OUTER = ("conv_in.", "conv_out.")
"""First and last layers, which Muon is not for."""


def new_denoiser() -> Any:
    """An untrained denoiser of 4.2 M parameters; attention at 8x8 and 4x4 only, where it is cheap."""
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


def text_encoder_from(clip_folder: Path) -> tuple[Any, Any]:
    """open_clip's text tower as transformers' ``CLIPTextModel`` (what a Stable Diffusion pipeline
    holds), and its tokenizer.
    """
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    weights = {
        k: v.float() for k, v in load_file(clip_folder / "open_clip_model.safetensors").items()
    }
    layers = 1 + max(
        int(k.split(".")[2]) for k in weights if k.startswith("transformer.resblocks.")
    )
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        hidden_act="gelu",
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: Any = CLIPTextModel(config)
    model.eval()
    prefix = "text_model." if any(k.startswith("text_model.") for k in model.state_dict()) else ""
    model.load_state_dict(_renamed(weights, layers, prefix), strict=True)
    return model, tokenizer


def _renamed(weights: dict[str, torch.Tensor], layers: int, prefix: str) -> dict[str, torch.Tensor]:
    """open_clip's names of the text tower's tensors to transformers' names."""
    out = {
        "embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "embeddings.position_embedding.weight": weights["positional_embedding"],
        "final_layer_norm.weight": weights["ln_final.weight"],
        "final_layer_norm.bias": weights["ln_final.bias"],
    }
    names = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for i in range(layers):
        old, new = f"transformer.resblocks.{i}.", f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            for a, b in names.items():
                out[f"{new}{b}.{kind}"] = weights[f"{old}{a}.{kind}"]
            for part, name in zip(
                weights[f"{old}attn.in_proj_{kind}"].chunk(3), "qkv", strict=True
            ):
                out[f"{new}self_attn.{name}_proj.{kind}"] = part
    return {prefix + k: v.contiguous() for k, v in out.items()}


@torch.no_grad()
def encode_latents(vae: Any, images: np.ndarray, device: str, batch: int = 256) -> torch.Tensor:
    """Scaled posterior means, fp16 (n, 6, 16, 16)."""
    rows = []
    for i in range(0, len(images), batch):
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            mean = vae.encode(pixels_to_tensor(images[i : i + batch]).to(device)).latent_dist.mean
        rows.append((mean.float() * vae.config.scaling_factor).half().cpu())
    return torch.cat(rows)


@torch.no_grad()
def encode_captions(
    model: Any, tokenizer: Any, captions: list[str], device: str, batch: int = 512
) -> torch.Tensor:
    """Last hidden states, fp16 (n, context, width)."""
    rows = []
    for i in range(0, len(captions), batch):
        ids = tokenizer(
            captions[i : i + batch],
            padding="max_length",
            max_length=CONTEXT,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        rows.append(model(ids.to(device)).last_hidden_state.half().cpu())
    return torch.cat(rows)


@dataclass(frozen=True)
class Examples:
    """What a denoiser learns from.

    ``latents`` fp16 (n, 6, 16, 16), scaled; ``words`` fp16 (n, context, width), the captions'
    hidden states; ``nothing`` (context, width) is the empty caption's, which takes a caption's
    place now and then (classifier-free guidance).
    """

    latents: torch.Tensor
    words: torch.Tensor
    nothing: torch.Tensor

    def batch(
        self, size: int, rng: np.random.Generator, device: str, drop: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``size`` latents and their captions, float32, the empty caption in place of a share
        ``drop`` of them.
        """
        rows = rng.choice(len(self.latents), size, replace=False)
        x, c = self.latents[rows].float().to(device), self.words[rows].float().to(device)
        return x, torch.where(
            torch.rand(size, 1, 1, device=device) < drop, self.nothing.float().to(device), c
        )


Loss = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]
"""From a network, latents and captions to what is to be made small."""


def velocity_loss(noiser: Any) -> Loss:
    """The squared error of the predicted velocity at a random time (Salimans and Ho 2022)."""

    def loss(net: Any, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        noise, t = torch.randn_like(x), torch.randint(0, 1000, (len(x),), device=x.device)
        made = net(noiser.add_noise(x, noise, t), t, c).sample
        return F.mse_loss(made.float(), noiser.get_velocity(x, noise, t))

    return loss


Save = Callable[[Any, Path], None]


def save_model(net: Any, out: Path) -> None:
    """The whole network, in diffusers' format."""
    net.save_pretrained(out)


def with_lora(net: Any, rank: int) -> Any:
    """Freezes a denoiser and adds a low-rank adapter (Hu et al. 2021) to its inner convolutions and
    projections.
    """
    from peft import LoraConfig

    net.requires_grad_(False)
    net.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, target_modules=rf".*\.({'|'.join(_ADAPTED)})")
    )
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


def save_lora(net: Any, out: Path) -> None:
    """The adapter alone, in fp16, as ``StableDiffusionPipeline.load_lora_weights`` reads it."""
    from diffusers import StableDiffusionPipeline
    from peft import get_peft_model_state_dict

    layers = {
        name: weight.half().contiguous() for name, weight in get_peft_model_state_dict(net).items()
    }
    StableDiffusionPipeline.save_lora_weights(out, unet_lora_layers=layers)


def train_denoiser(
    net: Any,
    examples: Examples,
    out: Path,
    steps: int,
    loss_of: Loss | None = None,
    batch: int = 64,
    rate: float = 2e-3,
    drop: float = 0.1,
    averaging: float = 0.998,
    device: str = "cpu",
    seed: int = 0,
    save: Save = save_model,
) -> None:
    """Trains and writes the moving average of the weights to ``out``, every 250 steps and at the
    end.

    Args:
        net: from :func:`new_denoiser`, or one to go on with.
        loss_of: :func:`velocity_loss` by default; the distillations have their own.
        drop: how often the empty caption takes a caption's place.
        averaging: the decay of the moving average.
        save: writes the averaged network into a folder: all of it by default, or :func:`save_lora`.
    """
    from diffusers import DDPMScheduler

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    loss_of = loss_of or velocity_loss(DDPMScheduler.from_config(NOISE))
    net = net.to(device, memory_format=torch.channels_last)

    def loss() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            return loss_of(net, *examples.batch(batch, rng, device, drop))

    train(
        net, loss, lambda made: save(made, out), out.name, steps, rate, OUTER, averaging, every=250
    )
