"""Low-rank adapters with random weights, in the file formats of training scripts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

FILE = "pytorch_lora_weights.safetensors"


def save_adapter(
    pipeline: str, weights: Path, folder: Path, text: bool = False, seed: int = 0
) -> Path:
    """Save an adapter of rank 2, and return its folder.

    Args:
        pipeline: name of the pipeline class in diffusers.
        weights: the folder of the pipeline.
        folder: the folder to write.
        text: whether the adapter also changes the first text encoder, in addition to the denoiser.
        seed: seed of the random weights.
    """
    import diffusers

    cls = getattr(diffusers, pipeline)
    model = cls.from_pretrained(weights)
    denoiser = "unet" if hasattr(model, "unet") else "transformer"
    torch.manual_seed(seed)
    layers = {
        f"{denoiser}_lora_layers": _layers(
            getattr(model, denoiser), ["to_q", "to_k", "to_v", "to_out.0"]
        )
    }
    if text:
        layers["text_encoder_lora_layers"] = _layers(model.text_encoder, ["q_proj", "v_proj"])
    folder.mkdir(parents=True)
    cls.save_lora_weights(folder, **layers)
    return folder


def _layers(model: Any, targets: list[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of an adapter for the layers of a model with the given names."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    copied = copy.deepcopy(model)
    copied.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False)
    )
    return {
        name: tensor.detach().clone() for name, tensor in get_peft_model_state_dict(copied).items()
    }


def save_kohya_adapter(adapter: Path, folder: Path, alpha: float) -> Path:
    """Save a UNet's adapter with the tensor names of kohya's scripts, and return its folder.

    Args:
        adapter: the folder of an adapter with the tensor names of diffusers.
        folder: the folder to write.
        alpha: scale of each layer, times the rank.
    """
    renamed = {}
    for name, tensor in load_file(adapter / FILE).items():
        layer, suffix = name.removeprefix("unet.").split(".lora_")
        prefix = f"lora_unet_{layer.replace('.', '_')}"
        renamed[f"{prefix}.lora_{'down' if suffix == 'A.weight' else 'up'}.weight"] = tensor
        renamed[f"{prefix}.alpha"] = torch.tensor(alpha)
    folder.mkdir()
    save_file(renamed, folder / FILE)
    return folder
